-- Where the time of an attempt went.
ALTER TABLE attempt ADD COLUMN phases TEXT NOT NULL DEFAULT '[]';   -- of the last one: JSON, seconds in order
