create table customers(id bigint primary key, name text not null, email varchar(99) comment 'Where to write') comment 'Who buys';
create table orders(id bigint primary key, customer_id bigint not null, total decimal(20,4), note text, paid boolean default 0, at datetime(3), day date, doc json, raw blob, ratio double, foreign key (customer_id) references customers(id));
create index orders_at on orders(at);
create view totals as select customer_id, sum(total) as total from orders group by 1;
insert into customers values (1,'O''Brien "the one"','o@example.com'),(9007199254740993,'Zoë\nLine',null);
insert into orders values (9007199254740993,9007199254740993,12345678901234.5678,null,1,'2026-01-02 03:04:05.678','2026-01-02','{"a":9007199254740993}',x'deadbeef',0.5),(2,1,0.1,'it''s',0,null,null,null,null,0.1);
