"""Operations over HTTP that need more than the service imports: dead letters, imports, comparisons of versions."""
