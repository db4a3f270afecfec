-- The database that the pages speak of.
CREATE TABLE customers (id int PRIMARY KEY, tenant_id text, name text, region text);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, tenant_id text, status text, total numeric);
ALTER TABLE orders REPLICA IDENTITY FULL;
INSERT INTO customers VALUES (1, 'acme', 'Ann', 'eu'), (2, 'acme', 'Ben', 'us'), (3, 'globex', 'Cyd', 'eu');
INSERT INTO orders VALUES (1, 1, 'acme', 'open', 10), (2, 2, 'acme', 'paid', 25), (3, 3, 'globex', 'open', 7);
CREATE ROLE app LOGIN;
CREATE ROLE auditor LOGIN;
CREATE TABLE demo_todos (id int PRIMARY KEY, title text, done boolean);
