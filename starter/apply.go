package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rekeyhq/rekey/starter/schedules"
)

func (a *app) apply() *cobra.Command {
	var offline, yes bool
	cmd := &cobra.Command{
		Use:   "apply [KEY…]",
		Short: "Bring the schedules into line with rekey.yaml",
		Long: `Shows the plan, asks for confirmation, and then creates, changes, pauses and unpauses schedules until they are as
rekey.yaml wants them. It touches no key; the schedules ask every day whether one is due. Run a second time it changes nothing, and
two at once do no harm. It deletes nothing; prune does.`,
		Example: `  rekey apply
  rekey apply --yes                    for a pipeline`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.json && !yes {
				return badInput("--json cannot ask; add --yes")
			}
			c, p, err := a.makePlan(cmd.Context(), args, !offline)
			if err != nil {
				return err
			}
			defer c.Close()
			if !a.json {
				fmt.Fprintln(a.out, p.text(len(args) > 0))
			}
			text := ""
			if n := p.plan.Applies(); n > 0 {
				text = fmt.Sprintf("Applied: %d created, %d changed.", p.plan.Count(schedules.Create), n-p.plan.Count(schedules.Create))
				if !yes && !a.confirm(fmt.Sprintf("\nChange %d schedule(s)? Type yes to continue: ", n), "yes") {
					return refused("nothing was changed")
				}
				p.schedules.Progress = a.bar("applying")
				err = p.schedules.Apply(cmd.Context(), p.plan)
			}
			return a.applied(p, err, text)
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "read schedules only; do not ask providers and stores")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) prune() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete the schedules of keys that are no longer in rekey.yaml",
		Long: `Shows the schedules of this install whose key is no longer in rekey.yaml, asks for confirmation, and deletes them.
Schedules of other installs are left alone. The keys themselves, and running rotations, stay as they are.`,
		Example: `  rekey prune
  rekey prune --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json && !yes {
				return badInput("--json cannot ask; add --yes")
			}
			c, p, err := a.makePlan(cmd.Context(), nil, false)
			if err != nil {
				return err
			}
			defer c.Close()
			n := p.plan.Count(schedules.Delete)
			if !a.json {
				for _, k := range p.Keys {
					if k.Action == schedules.Delete {
						fmt.Fprintf(a.out, "  - %s\n", k.Key)
					}
				}
			}
			if n > 0 {
				if !yes && !a.confirm(fmt.Sprintf("\nDelete %d schedule(s)? Type yes to continue: ", n), "yes") {
					return refused("nothing was changed")
				}
				p.schedules.Progress = a.bar("deleting")
				err = p.schedules.Prune(cmd.Context(), p.plan)
			}
			return a.applied(p, err, fmt.Sprintf("Deleted: %d.", n))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// applied prints what came of it. Schedules that are not ours make it a failure: their keys are not rotated by us.
func (a *app) applied(p planned, err error, text string) error {
	p.Applied = err == nil
	if blocked := p.plan.Count(schedules.Blocked); blocked > 0 {
		err = errors.Join(err, fmt.Errorf("%d schedule(s) are not ours and were left alone", blocked))
	}
	if !a.json && (!p.Applied || text == "") {
		return err
	}
	return errors.Join(a.print(p, text), err)
}

// bar is a progress bar for people who watch; nothing is shown elsewhere.
func (a *app) bar(what string) func(done, of int) {
	if !isTerminal(a.errOut) || a.json {
		return nil
	}
	const width = 40
	return func(done, of int) {
		if done == of {
			fmt.Fprint(a.errOut, "\r\033[K")
			return
		}
		full := done * width / of
		fmt.Fprintf(a.errOut, "\r\033[K%s [%s%s] %d/%d", what, strings.Repeat("#", full), strings.Repeat(" ", width-full), done, of)
	}
}
