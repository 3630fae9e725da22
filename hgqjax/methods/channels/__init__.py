"""Gates on neurons: methods that decide which neurons exist. One file each; the methods that have them are beside this folder."""
