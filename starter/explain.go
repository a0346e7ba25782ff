package main

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
)

func (a *app) explain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain KEY",
		Short: "Explain the state of a key's rotation and what you can do",
		Long: `Shows what the Temporal UI shows about the key's rotation: what happens now, what you do, where, with which message,
and what happens if nobody does; below that, how the rotation got there and the commands that are available now.`,
		Example: `  rekey explain openai-prod`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, k, err := a.key(args[0])
			if err != nil {
				return err
			}
			c, _, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			s := state(cmd.Context(), c, k.Name)
			return a.print(s, explanation(s))
		},
	}
}

func explanation(s keyState) string {
	var b strings.Builder
	fmt.Fprintln(&b, strings.TrimSpace(describe(s)))
	switch {
	case s.Status != nil:
		writeTrail(&b, s.Status.Trail)
		b.WriteString("\nAvailable now:\n")
		for _, k := range s.Status.Accepts {
			fmt.Fprintf(&b, "  %s\n", decisionCommand(k, s.Key))
		}
	case s.Result != nil:
		writeTrail(&b, s.Result.Trail)
		for _, d := range s.Result.Decisions {
			fmt.Fprintf(&b, "  %s: %s by %s (a claim). %s\n", d.At.UTC().Format(time.DateTime), d.Kind, d.By, d.Why)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

func writeTrail(b *strings.Builder, trail []rotation.TrailEntry) {
	if len(trail) == 0 {
		return
	}
	b.WriteString("\nHow it got there (UTC):\n")
	for _, e := range trail {
		fmt.Fprintf(b, "  %s  %-20s%s\n", e.At.UTC().Format(time.DateTime), e.Phase, e.Phase.Explain())
	}
}

// decisionCommand returns the command that sends a decision: it is called as the message is, but for supply, which puts the
// key into the store as well.
func decisionCommand(k rotation.DecisionKind, key string) string {
	switch k {
	case rotation.KeySupplied:
		return "rekey supply " + key
	case rotation.ExtendGrace, rotation.ExtendDeadline:
		return fmt.Sprintf(`rekey %s %s --for 12h --why "…"`, k, key)
	case rotation.Reject, rotation.AddNote, rotation.FinishGrace, rotation.RollBack, rotation.RaiseEmergency:
		return fmt.Sprintf(`rekey %s %s --why "…"`, k, key)
	default:
		return fmt.Sprintf("rekey %s %s", k, key)
	}
}

// completeKeys completes names of keys from rekey.yaml, each once.
func (a *app) completeKeys(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	cfg, err := a.config()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, k := range cfg.Keys {
		if !slices.Contains(args, k.Name) {
			names = append(names, cobra.CompletionWithDesc(k.Name, fmt.Sprintf("%s, %s", k.Provider, k.Tier)))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// complete lets the shell complete names from rekey.yaml: keys wherever a command takes them, and what chooses keys.
func (a *app) complete(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		switch {
		case strings.Contains(cmd.Use, "KEY…"):
			cmd.ValidArgsFunction = a.completeKeys
		case strings.Contains(cmd.Use, "KEY"):
			cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
				if len(args) > 0 {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				return a.completeKeys(cmd, args, typed)
			}
		}
		if cmd.Flags().Lookup("provider") != nil {
			// It fails only where there is no such flag.
			_ = cmd.RegisterFlagCompletionFunc("provider", a.completeFrom(func(c *config.Config) iter.Seq[string] { return maps.Keys(c.Providers) }))
		}
		if cmd.Flags().Lookup("store") != nil {
			_ = cmd.RegisterFlagCompletionFunc("store", a.completeFrom(func(c *config.Config) iter.Seq[string] { return maps.Keys(c.Stores) }))
		}
		if cmd.Flags().Lookup("tier") != nil {
			_ = cmd.RegisterFlagCompletionFunc("tier", completeTiers)
		}
	}
}

// completeFrom completes names from rekey.yaml.
func (a *app) completeFrom(names func(*config.Config) iter.Seq[string]) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		cfg, err := a.config()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.Sorted(names(cfg)), cobra.ShellCompDirectiveNoFileComp
	}
}

func completeTiers(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	for _, t := range rotation.Tiers() {
		names = append(names, string(t))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
