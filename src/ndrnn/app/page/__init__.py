"""The page that ``ndrnn serve`` shows: trained models at work on a picture, in a browser on this machine."""
