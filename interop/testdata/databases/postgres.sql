create table customers(id bigint primary key, name text not null, email text);
comment on table customers is 'Who buys';
comment on column customers.email is 'Where to write';
create table orders(
 id bigint primary key, customer_id bigint not null references customers(id), total numeric(20,4), note text, paid boolean default false,
 at timestamptz, day date, doc jsonb, raw bytea, tags text[], ratio double precision);
create index orders_at on orders(at);
create view totals as select customer_id, sum(total) as total from orders group by 1;
insert into customers values (1,'O''Brien "the one"','o@example.com'),(9007199254740993,E'Zo\u00eb\nLine',null);
insert into orders values (9007199254740993,9007199254740993,12345678901234.5678,null,true,'2026-01-02 03:04:05.678+00','2026-01-02','{"a":9007199254740993}','\xdeadbeef','{a,b}','NaN'),
 (2,1,0.1000,'it''s',false,null,null,null,null,null,0.1);
