-- The sample database: two years and more of sales of a chain of shops, as a
-- star around the table sales. Everything in it is computed from row numbers,
-- in integers, so it comes out the same each time. CROSS JOIN keeps SQLite to
-- the order of the joins as written, which is the quick one.

CREATE TABLE customers (
  -- who buys from us
  customer_id    INTEGER PRIMARY KEY,
  name           TEXT NOT NULL, -- as the customer writes it, in any script
  email          TEXT,          -- NULL if the customer gave none
  segment        TEXT NOT NULL CHECK (segment IN ('consumer', 'business', 'public')),
  country        TEXT NOT NULL, -- ISO 3166-1 alpha-2
  joined_on      DATE NOT NULL,
  loyalty_number INTEGER,       -- above 2^53, NULL for those not in the programme
  notes          TEXT,          -- free text, sometimes long
  photo          BLOB
);

CREATE TABLE products (
  -- what we sell
  product_id       INTEGER PRIMARY KEY,
  name             TEXT NOT NULL,
  category         TEXT NOT NULL,
  unit_price_cents INTEGER NOT NULL, -- list price, euro cents
  weight_kg        REAL,             -- NULL for what has no weight, such as vouchers
  discontinued_on  DATE              -- NULL while it is sold
);

CREATE TABLE calendar (
  -- one row a day, 2023 to 2025
  date_key   INTEGER PRIMARY KEY,  -- yyyymmdd
  full_date  DATE NOT NULL UNIQUE, -- ISO 8601
  year       INTEGER NOT NULL,
  quarter    INTEGER NOT NULL,     -- 1 to 4
  month      INTEGER NOT NULL,     -- 1 to 12
  weekday    INTEGER NOT NULL,     -- 1 is Monday, 7 is Sunday
  is_weekend INTEGER NOT NULL      -- 0 or 1
);

CREATE TABLE stores (
  -- where we sell
  store_id  INTEGER PRIMARY KEY,
  city      TEXT NOT NULL,
  country   TEXT NOT NULL, -- ISO 3166-1 alpha-2
  region    TEXT NOT NULL, -- North, South, East, West or Online
  opened_on DATE NOT NULL
);

CREATE TABLE sales (
  -- the facts: one row for each line of a receipt
  sale_id          INTEGER PRIMARY KEY,
  date_key         INTEGER NOT NULL REFERENCES calendar (date_key),
  store_id         INTEGER NOT NULL REFERENCES stores (store_id),
  customer_id      INTEGER REFERENCES customers (customer_id), -- NULL if unknown, as for cash
  product_id       INTEGER NOT NULL REFERENCES products (product_id),
  quantity         INTEGER NOT NULL CHECK (quantity > 0),
  discount_percent INTEGER NOT NULL DEFAULT 0,
  amount_cents     INTEGER NOT NULL -- what was paid: quantity x list price less discount, euro cents
);

WITH RECURSIVE
  n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000),
  first(i, v) AS (VALUES (0, 'Ada'), (1, 'Zoë'), (2, 'Łukasz'), (3, 'Μαρία'), (4, 'Иван'), (5, 'محمد'), (6, 'נועה'), (7, 'さくら'),
    (8, 'José'), (9, 'Anne-Marie'), (10, 'Siobhán'), (11, 'Bob'), (12, 'Priya')),
  last(i, v) AS (VALUES (0, 'Lovelace'), (1, 'O''Neill'), (2, 'García'), (3, 'Müller'), (4, 'Nguyễn'), (5, 'de la Cruz'), (6, 'Smith'),
    (7, '李'), (8, 'Øster'), (9, 'Papadopoulou'), (10, 'van den Berg'))
INSERT INTO customers
SELECT n.i,
  CASE n.i WHEN 42 THEN 'Café "Tab' || char(9) || 'and' || char(10) || 'newline" 🎉👩🏽‍🚀' ELSE first.v || ' ' || last.v END,
  CASE WHEN n.i % 17 = 0 THEN NULL ELSE printf('customer%04d@example.com', n.i) END,
  CASE WHEN n.i % 10 < 7 THEN 'consumer' WHEN n.i % 10 < 9 THEN 'business' ELSE 'public' END,
  substr('DEFRESITPLNLGRIEATBE', 1 + 2 * (n.i * 7919 / 3 % 10), 2),
  date('2019-01-01', (n.i * 2003 % 2190) || ' days'),
  CASE WHEN n.i % 3 = 0 THEN 9007199254740993 + n.i * 1000003 END,
  CASE WHEN n.i % 400 = 0 THEN printf('%.*c', 1200, 'x') || replace(printf('%.*c', 1200, '-'), '-', 'é 🙂 ')
       WHEN n.i % 50 = 0 THEN 'prefers to be called after six' END,
  CASE WHEN n.i % 500 = 0 THEN CAST(x'89504E470D0A1A0A' || printf('%.*c', 600, 'p') AS BLOB) END
FROM n CROSS JOIN first ON first.i = n.i * 31 % 13 CROSS JOIN last ON last.i = n.i * 17 % 11;

WITH RECURSIVE
  n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 200),
  kind(i, v, category) AS (VALUES (0, 'Espresso beans', 'coffee'), (1, 'Filter coffee', 'coffee'), (2, 'Green tea', 'tea'),
    (3, 'Earl Grey', 'tea'), (4, 'Moka pot', 'equipment'), (5, 'Grinder', 'equipment'), (6, 'Mug', 'tableware'),
    (7, 'Biscuits', 'food'), (8, 'Gift voucher', 'vouchers'), (9, 'Chocolate', 'food'))
INSERT INTO products
SELECT n.i,
  kind.v || ' No. ' || ((n.i - 1) / 10 + 1) || CASE n.i WHEN 1 THEN ' ☕️' WHEN 7 THEN ' «Größe L»' ELSE '' END,
  kind.category,
  290 + n.i * 7919 % 9700 / 10 * 10,
  CASE WHEN kind.category <> 'vouchers' THEN (50 + n.i * 37 % 2000) / 1000.0 END,
  CASE WHEN n.i % 23 = 0 THEN date('2024-01-01', n.i || ' days') END
FROM n CROSS JOIN kind ON kind.i = (n.i - 1) % 10;

WITH RECURSIVE n(i, d) AS (VALUES (1, '2023-01-01') UNION ALL SELECT i + 1, date(d, '1 day') FROM n WHERE i < 1096)
INSERT INTO calendar
SELECT CAST(strftime('%Y%m%d', d) AS INTEGER), d, CAST(strftime('%Y', d) AS INTEGER), (strftime('%m', d) + 2) / 3,
  CAST(strftime('%m', d) AS INTEGER), CAST(strftime('%u', d) AS INTEGER), strftime('%u', d) > '5'
FROM n;

INSERT INTO stores (store_id, city, country, region, opened_on) VALUES
  (1, 'Hamburg', 'DE', 'North', '2004-03-01'), (2, 'København', 'DK', 'North', '2009-09-14'), (3, 'Göteborg', 'SE', 'North', '2012-05-02'),
  (4, 'Oslo', 'NO', 'North', '2016-10-20'), (5, 'Tallinn', 'EE', 'North', '2021-04-12'), (6, 'Madrid', 'ES', 'South', '2007-02-05'),
  (7, 'Lisboa', 'PT', 'South', '2010-06-10'), (8, 'Napoli', 'IT', 'South', '2011-11-11'), (9, 'Αθήνα', 'GR', 'South', '2014-08-25'),
  (10, 'Marseille', 'FR', 'South', '2018-01-15'), (11, 'Wien', 'AT', 'East', '2005-05-05'), (12, 'Praha', 'CZ', 'East', '2008-04-21'),
  (13, 'Łódź', 'PL', 'East', '2013-03-18'), (14, 'Budapest', 'HU', 'East', '2015-07-06'), (15, 'София', 'BG', 'East', '2019-09-09'),
  (16, 'Dublin', 'IE', 'West', '2006-06-16'), (17, 'Paris', 'FR', 'West', '2006-10-02'), (18, 'Brussel', 'BE', 'West', '2010-12-01'),
  (19, 'Amsterdam', 'NL', 'West', '2012-02-20'), (20, 'Köln', 'DE', 'West', '2017-11-11'), (21, 'Online', 'DE', 'Online', '2011-01-01');

-- h scatters the rows; customers and products come out unevenly often, as in
-- life.
WITH RECURSIVE n(i, h) AS (VALUES (1, 48271) UNION ALL SELECT i + 1, h * 48271 % 2147483647 FROM n WHERE i < 50000)
INSERT INTO sales
SELECT sale_id, date_key, store_id, customer_id, product_id, quantity, discount,
  (quantity * unit_price_cents * (100 - discount) + 50) / 100
FROM (
  SELECT i AS sale_id, i * 1096 / 50001 + 1 AS day, CASE WHEN h % 5 < 2 THEN 21 ELSE 1 + h / 8 % 20 END AS store_id,
    CASE WHEN h % 11 > 0 THEN 1 + (h / 16 % 2000) * (h / 32 % 2000) / 2000 END AS customer_id,
    1 + (h / 64 % 200) * (h / 128 % 200) / 200 AS product_id, 1 + h / 256 % 7 * (h / 512 % 3) / 2 AS quantity,
    CASE h / 1024 % 10 WHEN 0 THEN 10 WHEN 1 THEN 25 ELSE 0 END AS discount
  FROM n)
CROSS JOIN products USING (product_id)
CROSS JOIN (SELECT date_key, row_number() OVER (ORDER BY date_key) AS day FROM calendar) USING (day);

CREATE INDEX sales_by_date ON sales (date_key);
CREATE INDEX sales_by_customer ON sales (customer_id);
CREATE INDEX sales_by_product ON sales (product_id);

-- revenue by month and region
CREATE VIEW monthly_revenue AS
SELECT c.year, c.month, s.region, sum(f.quantity) AS items, sum(f.amount_cents) AS revenue_cents
FROM sales f JOIN calendar c USING (date_key) JOIN stores s USING (store_id)
GROUP BY c.year, c.month, s.region;
