"""How the console looks: few colours, one grid, focus that shows."""

ACCENT = "#0d8f83"
SERIES = ("#0d9488", "#e0873b", "#5b7fd6", "#c2557a", "#8a9a3b", "#8b6fc4", "#4aa3c7", "#9a8478")
"""Colours of lines and bars: readable on white and on near black."""
GREY = "#8592a1"
GOOD, WARN, BAD = "#2e9e5b", "#c98a14", "#d64545"

CSS = """
:root { --bg: #f5f6f8; --card: #ffffff; --line: #dfe3e8; --text: #1b222c; --dim: #5b6674; --accent: #0b7d73;
  --hover: rgba(13, 143, 131, .09); }
body.body--dark { --bg: #0f1317; --card: #171c22; --line: #2a323c; --text: #e6eaef; --dim: #97a3b1; --accent: #3cc2b3;
  --hover: rgba(60, 194, 179, .12); }
body, body.body--dark { background: var(--bg); color: var(--text); }
a { color: var(--accent); }
.nicegui-content { padding: 0; }
.m-header { background: var(--card) !important; color: var(--text) !important; border-bottom: 1px solid var(--line); }
.m-drawer, .q-drawer { background: var(--card) !important; border-color: var(--line) !important; }
.q-drawer--left.q-drawer--bordered { border-right: 1px solid var(--line); }
.m-nav { border-radius: 8px; margin: 2px 10px; min-height: 42px; padding: 4px 12px; color: var(--text);
  text-decoration: none; }
.m-nav:hover { background: var(--hover); }
.m-nav[aria-current] { background: var(--hover); color: var(--accent); font-weight: 500; }
.m-key { font: 12px ui-monospace, monospace; color: var(--dim); border: 1px solid var(--line); border-radius: 4px;
  padding: 1px 6px; background: var(--bg); }
.m-page { width: 100%; max-width: 1360px; margin: 0 auto; padding: 24px; gap: 20px; }
@media (max-width: 600px) { .m-page { padding: 16px 12px; gap: 14px; } }
.m-page h1 { font-size: 24px; font-weight: 500; line-height: 1.2; margin: 0; }
.m-page h2 { font-size: 15px; font-weight: 500; line-height: 1.4; margin: 0; }
.q-card, .q-dialog .q-card { background: var(--card); color: var(--text); border: 1px solid var(--line);
  border-radius: 12px; box-shadow: none; }
.nicegui-card { padding: 18px; gap: 12px; }
.m-dim { color: var(--dim); }
.m-number { font-size: 26px; font-weight: 500; line-height: 1.2; font-variant-numeric: tabular-nums; }
.m-grid { display: grid; width: 100%; gap: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
.m-tiles { display: grid; width: 100%; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.m-tiles .nicegui-card { padding: 14px 16px; gap: 2px; }
.m-track { position: relative; height: 34px; width: 100%; background: var(--bg); border-radius: 8px; overflow: hidden; }
.m-track > * { position: absolute; top: 0; bottom: 0; }
.m-steps { display: flex; width: 100%; gap: 6px; }
.m-step { flex: 1; text-align: center; padding: 8px 4px; border-radius: 8px; background: var(--bg); color: var(--dim); }
.m-step.m-past { background: var(--hover); color: var(--accent); }
.m-step[aria-current] { background: var(--accent); color: var(--card); font-weight: 500; }
.m-banner { width: 100%; border-radius: 10px; border: 1px solid; padding: 10px 14px; align-items: center; gap: 12px; }
.m-over { position: fixed; bottom: 16px; left: 50%; transform: translateX(-50%); z-index: 3000;
  width: min(720px, 100% - 24px); background: linear-gradient(rgba(214, 69, 69, .12) 0 0), var(--card) !important; }
.m-bad { border-color: #d64545; background: rgba(214, 69, 69, .12); }
.m-warn { border-color: #c98a14; background: rgba(201, 138, 20, .12); }
.m-info { border-color: var(--line); background: var(--hover); }
.q-table__card { border: 1px solid var(--line); border-radius: 12px; background: var(--card); color: inherit; }
.nicegui-card .q-table__card { border: 0; border-radius: 0; }
.m-entry { width: 100%; border: 1px solid var(--line); border-radius: 10px; padding: 10px 12px;
  background: var(--card); }
.q-table th { font-weight: 500; color: var(--dim); }
code, .m-mono { font-family: ui-monospace, monospace; font-size: .92em; }
:focus-visible, .q-btn:focus-visible, .m-nav:focus-visible { outline: 2px solid var(--accent) !important;
  outline-offset: 2px; }
.m-skip { position: absolute; left: -9999px; } .m-skip:focus { left: 12px; top: 12px; z-index: 9999;
  background: var(--card); padding: 8px 12px; }
"""
