package main

import "github.com/spf13/cobra"

func newLab() *cobra.Command {
	return group("lab", "The real lab in network namespaces, and simulated edges (labelled so)",
		newLabUp(), newLabDown(), newLabStatus(), newLabHost(), newLabProbe(), newLabFault(), newLabRun(), newLabForward(), newLabSim(), newLabClab())
}
