"""Tables that belong together as flat ones, and back: who belongs to whom, what rows know, which rows fit."""
