//go:build race

package dbserver

func init() { raced = true }
