-- What goes straight from its acceptance to its delivery is leased until it is gone, and not parked: it is in
-- none of these indexes but recipient_leased. They serve the backlog and those who look at it.
ALTER TABLE message ADD COLUMN parked INTEGER NOT NULL DEFAULT 1;   -- past its first attempt, or not yet in it
CREATE INDEX message_sender ON message (sender) WHERE parked;
CREATE INDEX message_received ON message (received) WHERE parked;
CREATE INDEX message_file ON message (id) WHERE NOT inline;
DROP INDEX recipient_due;
CREATE INDEX recipient_due ON recipient (due, domain) WHERE state = 0 AND lease = 0;
CREATE INDEX recipient_domain ON recipient (domain) WHERE state <= 1 AND lease = 0;
CREATE INDEX recipient_reason ON recipient (reason) WHERE state <= 1 AND lease = 0;

-- Attempts of messages that are still here. What came again in the same words is counted, not kept again.
CREATE TABLE attempt (
  message INTEGER NOT NULL,       -- its seq
  position INTEGER NOT NULL,
  run INTEGER NOT NULL,           -- later ones are greater
  state INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  times INTEGER NOT NULL,
  reason TEXT NOT NULL,
  reply TEXT NOT NULL,
  remote TEXT NOT NULL,
  detail TEXT NOT NULL,
  tls TEXT NOT NULL,              -- of the last one
  seconds REAL NOT NULL,          -- of the last one
  PRIMARY KEY (message, position, run)
) STRICT, WITHOUT ROWID;

-- Messages that are gone, for as long as the configuration says.
CREATE TABLE ended (
  number INTEGER PRIMARY KEY,     -- made from the id (`history.number`), so that the id needs no index
  id TEXT NOT NULL,
  ended INTEGER NOT NULL,
  received INTEGER NOT NULL,
  size INTEGER NOT NULL,
  details TEXT NOT NULL,
  results BLOB NOT NULL           -- JSON: what became of each recipient, and the attempts
) STRICT;
ALTER TABLE counter ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;    -- rows of table ended

-- What an operator, or the server itself, does not want to be tried now.
CREATE TABLE pause (
  kind TEXT NOT NULL,             -- sender, domain or route
  value TEXT NOT NULL,
  since INTEGER NOT NULL,
  until INTEGER,                  -- NULL: until it is ended
  reason TEXT NOT NULL,
  PRIMARY KEY (kind, value)
) STRICT, WITHOUT ROWID;
