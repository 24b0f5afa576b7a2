"""What every room of the house uses: errors, whole files, records, commands, the offline guard."""
