"""From measured tables to hardware profiles: reading, splitting, fitting, validating."""
