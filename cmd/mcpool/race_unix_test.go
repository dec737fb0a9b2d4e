//go:build race && unix

package main

func init() { mostResident *= 4 } // what the detector itself takes
