"""What several test modules share: models, programs, profiles, oracles."""
