"""Plain shapes of what comes out: programs, profiles, audits, and how seeds are averaged."""
