"""The edge: what connections may cost before anybody has said who they are."""
