package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
)

func (a *app) rotate() *cobra.Command {
	var grace, why, by string
	var watch, ifDue bool
	cmd := &cobra.Command{
		Use:   "rotate KEY",
		Short: "Rotate one key now",
		Example: `  rekey rotate openai-prod --watch
  rekey rotate ci --if-due             for a cron job: does nothing while the key is fresh
  rekey rotate ci --grace 30m --why "laptop of a contractor was stolen"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, k, err := a.key(args[0])
			if err != nil {
				return err
			}
			if grace != "" {
				d, err := rotation.ParseDuration(grace)
				if err != nil {
					return badInput("--grace %q is not a valid duration; expected one like 30m or 48h", grace)
				}
				k.Policy.MaxGrace += d - k.Policy.Grace
				k.Policy.MaxGrace, k.Policy.Grace = max(k.Policy.MaxGrace, d), d
			}
			c, _, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			reason := rotation.Manual
			if ifDue {
				reason = rotation.Scheduled
			}
			rekey := client.New(c)
			run, err := rekey.Start(cmd.Context(), client.Request{Key: k, Reason: reason, By: by, Why: why})
			if errors.Is(err, client.ErrRunning) {
				return refused("a rotation of %s is running already. To see its state: rekey status %s", k.Name, k.Name)
			} else if err != nil {
				return err
			}
			if !watch {
				return a.print(map[string]string{"key": k.Name, "workflow_id": run.GetID(), "run_id": run.GetRunID()},
					fmt.Sprintf("Rotation of %s started (workflow %s). To follow it: rekey status %s", k.Name, run.GetID(), k.Name))
			}
			return a.watch(cmd.Context(), rekey, k.Name)
		},
	}
	cmd.Flags().StringVar(&grace, "grace", "", "grace period of this rotation, like 30m or 48h (default from the policy)")
	cmd.Flags().StringVar(&why, "why", "", "why, for those who read the history")
	cmd.Flags().StringVar(&by, "by", currentUser(), "who asks for it")
	cmd.Flags().BoolVar(&ifDue, "if-due", false, "do only what is due: rotate an old key, or finish what an earlier rotation left")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "stay and show each phase until it ends")
	return cmd
}

// watch shows each phase until the rotation ends.
func (a *app) watch(ctx context.Context, c *client.Client, key string) error {
	p := &progress{out: a.out, tty: isTerminal(a.out), quiet: a.json}
	defer p.stop()
	for step, err := range c.Watch(ctx, key) {
		switch {
		case ctx.Err() != nil:
			p.close(time.Now())
			return fmt.Errorf("not watching any more, but the rotation goes on. To see its state: rekey status %s", key)
		case err != nil:
			return err
		}
		p.enter(step.TrailEntry)
		if step.Result != nil {
			p.close(step.Result.EndedAt)
			return a.ended(*step.Result)
		}
	}
	return nil
}

// ended prints the result of a rotation and chooses the exit code.
func (a *app) ended(res rotation.Result) error {
	text := fmt.Sprintf("%s: %s. %s", res.Key, res.Phase, res.Outcome)
	for _, l := range res.FollowUps {
		text += "\n  to do: " + l
	}
	if err := a.print(res, text); err != nil {
		return err
	}
	switch res.Phase {
	case rotation.Completed:
		return nil
	case rotation.RolledBack:
		return &exit{exitRolledBack, fmt.Errorf("the rotation of %s rolled back", res.Key)}
	}
	return fmt.Errorf("the rotation of %s %s", res.Key, res.Outcome)
}

// print shows v as JSON or as text, as the caller asked.
func (a *app) print(v any, text string) error {
	if !a.json {
		_, err := fmt.Fprintln(a.out, text)
		return err
	}
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// firstSentence takes the line of the details that says what is happening.
func firstSentence(details string) string {
	parts := strings.SplitN(details, "\n", 4)
	if len(parts) < 3 {
		return details
	}
	return strings.TrimSpace(parts[2])
}
