-- Times are milliseconds since 1970. A recipient that is queued has either a lease (lease <> 0, and
-- due is when it runs out) or is due; a held one has neither. States are those of RecipientState.

CREATE TABLE message (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  received INTEGER NOT NULL,
  size INTEGER NOT NULL,
  inline INTEGER NOT NULL,        -- whether the body is in table body, else in bodies/ID
  pending INTEGER NOT NULL,       -- recipients that are not final; at 0 the message is deleted
  sender TEXT NOT NULL,           -- address, or <>
  peer TEXT NOT NULL,
  digest BLOB NOT NULL,           -- BLAKE2b-128 of body, then prefix
  prefix BLOB NOT NULL,
  details TEXT NOT NULL           -- JSON: envelope and origin
) STRICT;

-- Apart from the message, so that looking at messages does not read bodies.
CREATE TABLE body (
  seq INTEGER PRIMARY KEY,        -- that of the message
  content BLOB NOT NULL
) STRICT;

CREATE TABLE recipient (
  message INTEGER NOT NULL,       -- its seq
  position INTEGER NOT NULL,      -- in the envelope
  state INTEGER NOT NULL,
  lease INTEGER NOT NULL,
  due INTEGER,
  attempts INTEGER NOT NULL,
  interrupted INTEGER NOT NULL,
  delay_noticed INTEGER NOT NULL,
  last_attempt INTEGER,
  hold TEXT,                      -- hold with this reason when the attempt under way is deferred
  address TEXT NOT NULL,
  domain TEXT NOT NULL,
  reason TEXT NOT NULL,
  reply TEXT NOT NULL,
  remote TEXT NOT NULL,
  PRIMARY KEY (message, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX recipient_due ON recipient (due) WHERE state = 0 AND lease = 0;
CREATE INDEX recipient_leased ON recipient (due) WHERE lease <> 0;
CREATE INDEX recipient_held ON recipient (message) WHERE state = 1;

-- accepted = delivered + failed + expired + removed + held + queued, whenever anyone looks.
CREATE TABLE counter (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  accepted INTEGER NOT NULL,
  delivered INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  expired INTEGER NOT NULL,
  removed INTEGER NOT NULL,
  messages INTEGER NOT NULL,
  octets INTEGER NOT NULL
) STRICT;

INSERT INTO counter VALUES (1, 0, 0, 0, 0, 0, 0, 0);
