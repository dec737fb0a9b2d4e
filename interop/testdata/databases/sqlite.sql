create table customers(id integer primary key, name text not null, email text);
create table orders(id integer primary key, customer_id integer not null references customers(id), total real, note text, paid boolean default 0, at text, raw blob);
create index orders_at on orders(at);
create view totals as select customer_id, sum(total) as total from orders group by 1;
insert into customers values (1,'O''Brien "the one"','o@example.com'),(9007199254740993,'Zoë'||char(10)||'Line',null);
insert into orders values (9007199254740993,9007199254740993,1234.5,null,1,'2026-01-02',x'deadbeef'),(2,1,0.1,'it''s',0,null,null);
