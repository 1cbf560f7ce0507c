-- An index for searches (`clues`), made in blocks by who has time. Nothing of it is mail: it may be deleted.
CREATE TABLE clue (
  block INTEGER PRIMARY KEY,
  living INTEGER NOT NULL,        -- of table message, else of table ended
  late INTEGER NOT NULL,          -- of rows that came below what had been gone through
  first INTEGER NOT NULL,         -- least place: a seq, or a number
  last INTEGER NOT NULL,          -- up to where it goes
  terms BLOB NOT NULL,            -- 8 octets each, sorted: 32 bits of a term, 16 of the index of a place
  places BLOB NOT NULL            -- 8 octets each, in order
) STRICT;

-- Rows that came below what had been gone through.
CREATE TABLE late (
  living INTEGER NOT NULL,
  place INTEGER NOT NULL,
  PRIMARY KEY (living, place)
) STRICT, WITHOUT ROWID;
