-- The database that the attacks by writing are against. What nobody may be told
-- begins with the word hidden and a digit, a dash or a space.
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT UNIQUE, ssn TEXT, n INT);
INSERT INTO users SELECT value, 'user ' || value, 'hidden' || value || '@x.org', 'hidden-' || value, value FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12]');
CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE, note TEXT);
INSERT INTO orders SELECT u.id * 100 + o.id, u.id, 'order' FROM users u JOIN users o WHERE u.id < 3;
CREATE TABLE log (line TEXT);
CREATE TABLE audited (id INTEGER PRIMARY KEY, a TEXT);
INSERT INTO audited VALUES (1, 'a');
CREATE TRIGGER audited_update AFTER UPDATE ON audited BEGIN UPDATE users SET n = n + 1; END;
CREATE TRIGGER spills AFTER DELETE ON log BEGIN INSERT INTO log SELECT email FROM users; END;
CREATE TRIGGER tells AFTER UPDATE OF note ON orders BEGIN INSERT INTO log SELECT word FROM secret; END;
CREATE VIEW names AS SELECT id, name FROM users;
CREATE TRIGGER renamed INSTEAD OF UPDATE ON names BEGIN UPDATE users SET name = new.name; END;
CREATE VIEW contacts AS SELECT id, email FROM users;
CREATE VIRTUAL TABLE docs USING fts5(body);
INSERT INTO docs VALUES ('hello');
CREATE VIRTUAL TABLE mails USING fts5(email);
INSERT INTO mails SELECT email FROM users;
CREATE TABLE secret (word TEXT);
INSERT INTO secret VALUES ('hidden word');
