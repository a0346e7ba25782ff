package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
)

// decisions are the commands that send one decision to a rotation.
func (a *app) decisions() []*cobra.Command {
	var all []*cobra.Command
	for _, d := range []struct {
		kind                  rotation.DecisionKind
		short, example        string
		needsWhy, takesLength bool
	}{
		{rotation.Approve, "Let a rotation that waits for approval go on", `  rekey approve openai-prod --why "dashboards show no use of the old key"`, false, false},
		{rotation.Reject, "Roll back a rotation that waits for approval", `  rekey reject openai-prod --why "batch jobs still use the old key"`, true, false},
		{rotation.ExtendGrace, "Keep old and new key longer, up to max_grace of the policy", `  rekey extend-grace openai-prod --for 12h --why "one deployment is missing"`, true, true},
		{rotation.ExtendDeadline, "Move the deadline of a wait for a person", `  rekey extend-deadline openai-prod --for 2d --why "Kim has the console's password and is back on Monday"`, true, true},
		{rotation.FinishGrace, "End the grace period now", `  rekey finish-grace openai-prod --why "every consumer has restarted"`, true, false},
		{rotation.RollBack, "Return to the old key", `  rekey roll-back openai-prod --why "the new key lacks a permission"`, true, false},
		{rotation.AddNote, "Leave a note for whoever comes next; it decides nothing", `  rekey add-note openai-prod --why "asked Kim, who has the console's password; back at nine"`, true, false},
		{rotation.KeyRevoked, "Report that you have revoked the old key; rekey checks it", `  rekey key-revoked openai-prod`, false, false},
	} {
		var by, why, length, question string
		var signs signing
		canSign := d.kind == rotation.Approve || d.kind == rotation.FinishGrace
		cmd := &cobra.Command{
			Use: string(d.kind) + " KEY", Short: d.short, Example: d.example, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				m := rotation.DecisionMessage{ID: uuid.NewString(), By: by, Why: why, Question: question}
				if d.needsWhy && why == "" {
					return badInput("say why with --why: it is kept with the rotation")
				}
				if d.takesLength {
					var err error
					if m.For, err = rotation.ParseDuration(length); err != nil {
						return badInput("--for %q is not a valid duration; expected one like 12h or 2d", length)
					}
				}
				c, namespace, err := a.dial(cmd.Context())
				if err != nil {
					return err
				}
				defer c.Close()
				var before rotation.Status
				if canSign {
					said := ""
					if cmd.Flags().Changed("by") {
						said = by
					}
					if before, m, err = a.signIfAsked(cmd.Context(), c, namespace, args[0], d.kind, signs, m, said); err != nil {
						return err
					}
				}
				s, err := decide(cmd.Context(), c, args[0], d.kind, m)
				if err != nil {
					return err
				}
				if m.Signature != "" {
					return a.print(s, signedText(d.kind, before, s))
				}
				text := fmt.Sprintf("%s taken. %s is in %s.", d.kind, s.Key, s.Phase)
				if d.kind == rotation.ExtendDeadline {
					text += " Its deadline is " + s.Deadline.Format(time.RFC3339) + "."
				}
				return a.print(s, text)
			},
		}
		cmd.Flags().StringVar(&by, "by", currentUser(), "who decides; recorded as a claim")
		cmd.Flags().StringVar(&why, "why", "", "why, kept with the rotation's result")
		if d.kind == rotation.Approve || d.kind == rotation.Reject {
			cmd.Flags().StringVar(&question, "question", "", "id of the question to answer, as status shows it; no other question is answered")
		}
		if canSign {
			cmd.Flags().StringVar(&signs.keyFile, "ssh-key", os.Getenv(sshKeyVariable), "private key `file` to sign with, or a .pub file to choose a key of the agent (default from "+sshKeyVariable+", else the agent's key that rekey.yaml lists)")
			cmd.Flags().BoolVar(&signs.must, "sign", false, "refuse to send it unsigned; under four eyes it is signed anyway")
			cmd.Flags().BoolVar(&signs.yes, "yes", false, "do not ask before signing")
			cmd.Long = d.short + signingHelp
		}
		if d.takesLength {
			cmd.Flags().StringVar(&length, "for", "", "how much longer, like 12h or 2d")
		}
		if d.kind == rotation.ExtendDeadline {
			cmd.Long = d.short + ", and with it reminders and escalation, up to four times the patience of\nthe policy. To keep both keys longer instead: rekey extend-grace."
		}
		all = append(all, cmd)
	}
	return all
}

// decide sends a decision and waits until it is taken or refused.
func decide(ctx context.Context, c sdkclient.Client, key string, kind rotation.DecisionKind, m rotation.DecisionMessage) (rotation.Status, error) {
	s, err := client.New(c).Decide(ctx, key, kind, m)
	var no *rotation.RejectedDecision
	switch {
	case errors.As(err, &no):
		return s, refused("%s was not taken: %s", kind, no.Message)
	case errors.Is(err, client.ErrNotRunning):
		return s, refused("no rotation of %s is running", key)
	}
	return s, err
}
