package main

import "slices"

// partD is the PKI.
var partD = slices.Concat(partDClients, partDLoad, partDLife, partDRotate)
