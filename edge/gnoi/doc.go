// Package gnoi is the protocol of what an edge serves besides gNMI: tools that
// look at the network from it, and the replacement of the agent itself. It
// follows the services of openconfig/gnoi, whose module is not in our build.
package gnoi

// After a change of gnoi.proto, with protoc 3.21 (Debian: protobuf-compiler),
// protoc-gen-go 1.36 and protoc-gen-go-grpc 1.6 in PATH:
//go:generate protoc --proto_path=../.. --go_out=../.. --go_opt=module=github.com/wardnet/wardnet --go-grpc_out=../.. --go-grpc_opt=module=github.com/wardnet/wardnet edge/gnoi/gnoi.proto
