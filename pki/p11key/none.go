//go:build !pkcs11

package p11key // empty: it needs cgo and the build tag pkcs11
