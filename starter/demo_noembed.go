//go:build noembed

package main

import "github.com/spf13/cobra"

// demo of the slim build, which links neither a Temporal server nor the simulators.
func (a *app) demo() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "demo",
		Short:  "Not in this build: it was built with -tags noembed",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return badInput("this build has no demo: it was built with -tags noembed, without Temporal's server and the simulators. From a checkout, run: go run ./starter demo")
		},
	}
	cmd.Flags().BoolVar(new(bool), "keep", false, "")
	cmd.Flags().BoolVar(new(bool), "no-ui", false, "")
	return cmd
}
