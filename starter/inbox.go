package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
)

// inboxContents is what waits for people.
type inboxContents struct {
	Waiting []client.Waiting `json:"waiting"`
	// ToDo is what rotations that have ended left for a person, of each key the latest only.
	FollowUps []followUps `json:"followUps"`
	// Partial: there were more ended rotations than could be looked at.
	Partial bool `json:"partial,omitempty"`
}

// followUps is what one rotation left for a person.
type followUps struct {
	Key       string         `json:"key"`
	Phase     rotation.Phase `json:"phase"`
	EndedAt   time.Time      `json:"endedAt"`
	FollowUps []string       `json:"followUps"`
}

func (a *app) inbox() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "inbox",
		Short: "Show everything that waits for a person",
		Long: `Shows the rotations that wait for a person, the one whose time is up first at the top, each with the command that
answers it; then what there is to do after rotations that have ended, for as long as Temporal remembers them. It asks
only Temporal, and needs neither a worker nor rekey.yaml.`,
		Example: `  rekey inbox
  rekey inbox --check || echo "somebody is needed"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			in, err := readInbox(cmd.Context(), client.New(c))
			if err != nil {
				return err
			}
			if err := a.print(in, in.text(time.Now())); err != nil {
				return err
			}
			if n := len(in.Waiting); check && n > 0 {
				return refused("%d rotation(s) wait for a person", n)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit code 3 if a rotation waits")
	return cmd
}

func readInbox(ctx context.Context, c *client.Client) (inboxContents, error) {
	in := inboxContents{FollowUps: []followUps{}}
	var err error
	if in.Waiting, err = c.Inbox(ctx); err != nil {
		return in, err
	}
	results, all, err := c.FollowUps(ctx)
	in.Partial = !all
	for _, r := range results {
		in.FollowUps = append(in.FollowUps, followUps{Key: r.Key, Phase: r.Phase, EndedAt: r.EndedAt, FollowUps: r.FollowUps})
	}
	return in, err
}

func (in inboxContents) text(now time.Time) string {
	var b strings.Builder
	if len(in.Waiting) == 0 {
		b.WriteString("No rotation waits for a person.\n")
	} else {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "KEY\tTIER\tPHASE\tREASON\tUNTIL\tANSWER WITH")
		for _, x := range in.Waiting {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", x.Key, x.Tier, x.Phase, x.Reason, until(x.Deadline, now), answer(x))
		}
		_ = w.Flush()
		b.WriteString("\nWhat to do, step by step: rekey explain KEY\n")
	}
	if len(in.FollowUps) > 0 {
		b.WriteString("\nTo do after rotations that have ended:\n")
		for _, l := range in.FollowUps {
			fmt.Fprintf(&b, "\n%s, %s at %s\n", l.Key, l.Phase, l.EndedAt.UTC().Format(rotation.MinuteLayout))
			for _, s := range l.FollowUps {
				fmt.Fprintf(&b, "  - %s\n", s)
			}
		}
	}
	if in.Partial {
		b.WriteString("\nThere are more ended rotations than were read; rekey status KEY shows the latest one of a key.\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

func until(deadline, now time.Time) string {
	switch {
	case deadline.IsZero():
		return ""
	case !now.Before(deadline):
		return "OVERDUE since " + deadline.UTC().Format(rotation.MinuteLayout)
	}
	return deadline.UTC().Format(rotation.MinuteLayout)
}

// answer is the command that answers a rotation.
func answer(w client.Waiting) string {
	switch w.Phase {
	case rotation.AwaitingKey:
		return "rekey supply " + w.Key
	case rotation.AwaitingRevocation:
		return "rekey key-revoked " + w.Key
	case rotation.AwaitingApproval:
		return "rekey approve " + w.Key
	}
	return "rekey explain " + w.Key
}
