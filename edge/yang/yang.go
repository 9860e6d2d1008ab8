// Package yang holds the YANG module of the native model that an edge serves
// over gNMI. It describes the documents; the Go types of package edge are what
// both ends run.
package yang

import _ "embed"

// Module is the text of wardnet.yang.
//
//go:embed wardnet.yang
var Module string

// Router is the text of wardnet-router.yang, the part that a router without
// our agent holds over NETCONF.
//
//go:embed wardnet-router.yang
var Router string

// Version is the semantic version of the model, as Capabilities tells it.
const Version = "1.1.0"
