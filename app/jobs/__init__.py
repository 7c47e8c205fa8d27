"""Jobs: stage commands that outlive their terminal."""
