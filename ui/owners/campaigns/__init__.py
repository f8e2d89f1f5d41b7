"""The Campaigns tab: create, open, invite, watch, close, read the verdict. Managers get the same for their campaign."""
