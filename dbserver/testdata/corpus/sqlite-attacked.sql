-- The database that the attacks are against.
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT);
INSERT INTO users VALUES (1, 'Ada', 'ada@example.com'), (2, 'Bob', NULL);
CREATE TABLE log (line TEXT);
CREATE INDEX users_name ON users (name);
CREATE VIEW names AS SELECT name FROM users;
CREATE TRIGGER names_delete INSTEAD OF DELETE ON names BEGIN DELETE FROM users WHERE name = old.name; END;
CREATE VIRTUAL TABLE docs USING fts5(body);
INSERT INTO docs VALUES ('hello world'), ('goodbye');
CREATE VIRTUAL TABLE boxes USING rtree(id, x1, x2);
INSERT INTO boxes VALUES (1, 0.0, 1.0), (2, 5.0, 6.0);
PRAGMA user_version = 7;
