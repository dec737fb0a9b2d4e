// Package check tests what is beside it: that the files of deploy are what
// systemd, Compose, Docker and Kubernetes read, and that the program takes the
// command lines and configurations in them. Nothing of it is in the product.
package check
