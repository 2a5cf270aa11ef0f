"""The stage that measures an asset, judges it by gates and writes its report."""
