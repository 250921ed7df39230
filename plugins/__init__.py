"""The plugins that ship with Dragoman.  Each imports `proxy.plugin` and nothing else of ours."""
