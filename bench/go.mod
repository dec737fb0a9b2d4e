module github.com/mcpool-dev/mcpool/bench

go 1.26.0

require (
	github.com/jackc/puddle/v2 v2.2.3
	github.com/mcpool-dev/mcpool v0.0.0
	go.uber.org/goleak v1.3.0
)

require (
	golang.org/x/oauth2 v0.37.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
)

replace github.com/mcpool-dev/mcpool => ../
