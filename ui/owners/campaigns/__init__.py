"""The Campaigns tab: create, open, watch and close campaigns, invite people, read verdicts. Managers use it too."""
