package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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
		kind                  rotation.Kind
		use, short, example   string
		needsWhy, takesLength bool
	}{
		{rotation.Approve, "approve KEY", "Let a rotation that waits for approval go on", `  starter approve openai-prod --why "dashboards show no use of the old key"`, false, false},
		{rotation.Reject, "reject KEY", "Roll back a rotation that waits for approval", `  starter reject openai-prod --why "batch jobs still use the old key"`, true, false},
		{rotation.ExtendGrace, "extend KEY", "Keep old and new key longer, or move the deadline of a wait for a person", `  starter extend openai-prod --for 12h --why "one deployment is missing"`, true, true},
		{rotation.FinishGrace, "finish KEY", "End the grace period now", `  starter finish openai-prod --why "every consumer has restarted"`, true, false},
		{rotation.RollBack, "rollback KEY", "Return to the old key", `  starter rollback openai-prod --why "the new key lacks a permission"`, true, false},
		{rotation.HandOver, "note KEY", "Leave a note for whoever comes next; it decides nothing", `  starter note openai-prod --why "asked Kim, who has the console's password; back at nine"`, true, false},
		{rotation.KeyRevoked, "revoked KEY", "Say that you have revoked the old key; rekey checks it", `  starter revoked openai-prod`, false, false},
	} {
		var by, why, length, question string
		var grace bool
		var signs signing
		canSign := d.kind == rotation.Approve || d.kind == rotation.FinishGrace
		cmd := &cobra.Command{
			Use: d.use, Short: d.short, Example: d.example, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				m := rotation.Message{ID: uuid.NewString(), By: by, Why: why, Question: question}
				if d.needsWhy && why == "" {
					return badInput("say why with --why: it is kept with the rotation")
				}
				if d.takesLength {
					var err error
					if m.For, err = rotation.ParseDuration(length); err != nil {
						return badInput("--for %q is no duration; expected one like 12h or 2d", length)
					}
				}
				c, namespace, err := a.dial(cmd.Context())
				if err != nil {
					return err
				}
				defer c.Close()
				kind := d.kind
				if d.takesLength && !grace {
					kind = whatToExtend(cmd.Context(), c, args[0])
				}
				var before rotation.Status
				if canSign {
					said := ""
					if cmd.Flags().Changed("by") {
						said = by
					}
					if before, m, err = a.signIfAsked(cmd.Context(), c, namespace, args[0], kind, signs, m, said); err != nil {
						return err
					}
				}
				s, err := decide(cmd.Context(), c, args[0], kind, m)
				if err != nil {
					return err
				}
				if m.Signature != "" {
					return a.print(s, signedText(kind, before, s))
				}
				text := fmt.Sprintf("%s taken. %s is in %s.", kind, s.Key, s.Phase)
				if kind == rotation.ExtendWait {
					text += " Its deadline is " + s.Deadline.Format(time.RFC3339) + "."
				}
				return a.print(s, text)
			},
		}
		cmd.Flags().StringVar(&by, "by", who(), "who decides; recorded as a claim")
		cmd.Flags().StringVar(&why, "why", "", "why, kept with the rotation's result")
		if d.kind == rotation.Approve || d.kind == rotation.Reject {
			cmd.Flags().StringVar(&question, "question", "", "id of the question that is answered, as status shows it; another one is left alone")
		}
		if canSign {
			cmd.Flags().StringVar(&signs.keyFile, "ssh-key", os.Getenv(sshKeyVariable), "private key `file` to sign with, or a .pub file to choose a key of the agent (default from "+sshKeyVariable+", else the agent's key that rekey.yaml lists)")
			cmd.Flags().BoolVar(&signs.must, "sign", false, "send nothing that is not signed; a rotation under four eyes is signed for anyway")
			cmd.Flags().BoolVar(&signs.yes, "yes", false, "do not ask before signing")
			cmd.Long = d.short + signingHelp
		}
		if d.takesLength {
			cmd.Flags().StringVar(&length, "for", "", "how much longer, like 12h or 2d")
			cmd.Flags().BoolVar(&grace, "grace", false, "extend the grace period also while a person is waited for")
			cmd.Long = "In a phase that waits for a person it moves the deadline, and with it reminders and escalation, up to four times\n" +
				"the patience of the policy. In any other phase, and with --grace, it keeps old and new key longer, up to max_grace."
		}
		all = append(all, cmd)
	}
	return all
}

// whatToExtend is the deadline where a person is waited for, else the grace period. A rotation that does not answer will
// not take either, and says why.
func whatToExtend(ctx context.Context, c sdkclient.Client, key string) rotation.Kind {
	if s, err := client.Status(ctx, c, key); err == nil && slices.Contains(s.Accepts, rotation.ExtendWait) {
		return rotation.ExtendWait
	}
	return rotation.ExtendGrace
}

// decide sends a decision and waits until it is taken or refused.
func decide(ctx context.Context, c sdkclient.Client, key string, kind rotation.Kind, m rotation.Message) (rotation.Status, error) {
	s, err := client.Decide(ctx, c, key, kind, m)
	var no *rotation.Refusal
	switch {
	case errors.As(err, &no):
		return s, refused("%s was not taken: %s", kind, no.Message)
	case errors.Is(err, client.ErrNoRotation):
		return s, refused("no rotation of %s is under way", key)
	}
	return s, err
}
