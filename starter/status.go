package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
)

// keyState is what status knows about one key.
type keyState struct {
	Key string `json:"key"`
	// State is the phase of the running rotation, or how the last one ended, or "no rotation known": none yet, or none that
	// Temporal still keeps.
	State   string           `json:"state"`
	Running bool             `json:"running"`
	Status  *rotation.Status `json:"status,omitempty"`
	Result  *rotation.Result `json:"result,omitempty"`
	Problem string           `json:"problem,omitempty"`
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status [KEY]",
		Short: "Show the state of rotations",
		Example: `  rekey status
  rekey status openai-prod
  rekey status --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			keys := cfg.Keys
			if len(args) == 1 {
				_, k, err := a.key(args[0])
				if err != nil {
					return err
				}
				keys = []rotation.Key{k}
			}
			c, _, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			states := make([]keyState, len(keys))
			for i, k := range keys {
				states[i] = state(cmd.Context(), c, k.Name)
			}
			if len(args) == 1 {
				return a.print(states[0], describe(states[0]))
			}
			return a.print(map[string]any{"keys": states}, table(states))
		},
	}
}

// state looks at the newest rotation of a key.
func state(ctx context.Context, c sdkclient.Client, key string) keyState {
	s := keyState{Key: key}
	rekey := client.New(c)
	res, ended, err := rekey.Result(ctx, key)
	switch {
	case errors.Is(err, client.ErrNotFound):
		s.State = "no rotation known"
	case err != nil:
		s.State, s.Problem = "unknown", err.Error()
	case ended:
		s.State, s.Result = string(res.Phase), &res
	default:
		s.Running, s.State = true, "running"
		st, err := rekey.Status(ctx, key)
		if err != nil {
			s.Problem = "the rotation does not answer; is a worker running? (rekey doctor)"
			break
		}
		s.State, s.Status = string(st.Phase), &st
	}
	return s
}

func describe(s keyState) string {
	switch {
	case s.Status != nil:
		return s.Status.Details
	case s.Result != nil:
		text := fmt.Sprintf("%s: %s at %s. %s", s.Key, s.State, s.Result.EndedAt.Format(time.RFC3339), s.Result.Outcome)
		for _, l := range s.Result.FollowUps {
			text += "\n  to do: " + l
		}
		return text
	}
	return strings.TrimSpace(s.Key + ": " + s.State + ". " + s.Problem)
}

func table(states []keyState) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tSTATE\tSINCE OR UNTIL\tWHAT")
	for _, s := range states {
		when, what := "", s.Problem
		switch {
		case s.Status != nil:
			what = firstSentence(s.Status.Details)
			if !s.Status.Deadline.IsZero() {
				when = "until " + s.Status.Deadline.Format(time.DateTime)
			} else if !s.Status.GraceUntil.IsZero() {
				when = "until " + s.Status.GraceUntil.Format(time.DateTime)
			}
		case s.Result != nil:
			when, what = "since "+s.Result.EndedAt.Format(time.DateTime), s.Result.Outcome
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.100s\n", s.Key, s.State, when, what)
	}
	_ = w.Flush()
	return strings.TrimRight(b.String(), "\n")
}
