package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/worker/adapters"
)

// maxSupplied bounds what is read from a pipe: no key is longer than a Google key file.
const maxSupplied = 64 << 10

func (a *app) supply() *cobra.Command {
	var by, why string
	cmd := &cobra.Command{
		Use:   "supply KEY",
		Short: "Give a waiting rotation the new key that you made at the provider",
		Long: `Reads the new key from a hidden prompt or from standard input, checks it, puts it into the key's first store as a
version that no application reads, and sends the version's number to the rotation. The key itself never goes to
Temporal.`,
		Example: `  rekey supply openai-prod
  pbpaste | rekey supply openai-prod`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, k, err := a.key(args[0])
			if err != nil {
				return err
			}
			c, _, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := client.New(c).Status(cmd.Context(), k.Name)
			if err != nil {
				return refused("no rotation of %s answers. Start one first: rekey rotate %s", k.Name, k.Name)
			}
			if s.Phase != rotation.AwaitingKey {
				return refused("the rotation of %s is in %s and takes no key now", k.Name, s.Phase)
			}
			acts, err := adapters.Look(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			// Before anybody types a key. Other stores are not on a machine.
			if first := k.Stores[0]; cfg.Stores[first.Store].Type == config.Local {
				if _, err := acts.Stores[first.Store].Load(cmd.Context(), first.Path); err != nil {
					return fmt.Errorf("the key was not asked for: %w", err)
				}
			}
			value, err := a.readKey(cmd.Context(), k.Name)
			if err != nil {
				return err
			}
			version, fingerprint, err := acts.StageSupplied(cmd.Context(), k, s.Rotation, value)
			if err != nil {
				if fault.Is(err, fault.Rejected) {
					return &exit{exitBadInput, err}
				}
				return err
			}
			st, err := decide(cmd.Context(), c, k.Name, rotation.KeySupplied, rotation.DecisionMessage{ID: uuid.NewString(), By: by, Why: why, Version: version, Fingerprint: fingerprint})
			if err != nil {
				return fmt.Errorf("stored the key %s in %s as version %s, but the rotation was not notified: %w. If it still waits for a key, send it the update key-supplied with that version", fingerprint, k.Stores[0], version, err)
			}
			return a.print(map[string]any{"fingerprint": fingerprint, "version": version, "status": st},
				fmt.Sprintf("Stored the key %s in %s as version %s. The rotation is checking it now.", fingerprint, k.Stores[0], version))
		},
	}
	cmd.Flags().StringVar(&by, "by", currentUser(), "who supplies it; recorded as a claim")
	cmd.Flags().StringVar(&why, "why", "", "why, kept with the rotation's result")
	return cmd
}

// readKey reads the key without showing it.
func (a *app) readKey(ctx context.Context, what string) (secret.Value, error) {
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return a.promptKey(ctx, int(f.Fd()), what)
	}
	text, err := io.ReadAll(io.LimitReader(a.in, maxSupplied+1))
	if err != nil {
		return secret.Value{}, fmt.Errorf("the key could not be read from standard input: %w", err)
	}
	if len(text) > maxSupplied {
		return secret.Value{}, badInput("standard input holds more than %d KiB: that is not a key", maxSupplied>>10)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return secret.Value{}, badInput("standard input is empty; expected the new key")
	}
	return secret.New(text), nil
}

// promptKey reads the key from a terminal that does not show it.
func (a *app) promptKey(ctx context.Context, fd int, what string) (secret.Value, error) {
	text, err := a.hidden(ctx, fd, fmt.Sprintf("New key for %s (not shown): ", what), fmt.Sprintf("interrupted before a key for %s was read; nothing was changed", what))
	if err != nil {
		return secret.Value{}, err
	}
	return secret.New(text), nil
}

// hidden reads a line from a terminal that does not show it. Ctrl-C gives the terminal back as it was: the first one
// does not end the process, and a read of a terminal cannot be interrupted, so it is left behind.
func (a *app) hidden(ctx context.Context, fd int, prompt, interrupted string) ([]byte, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("the terminal cannot be read: %w", err)
	}
	fmt.Fprint(a.errOut, prompt)
	type typed struct {
		text []byte
		err  error
	}
	read := make(chan typed, 1)
	go func() {
		text, err := term.ReadPassword(fd)
		read <- typed{text, err}
	}()
	select {
	case <-ctx.Done():
		_ = term.Restore(fd, before)
		fmt.Fprintln(a.errOut)
		return nil, &exit{exitInterrupted, errors.New(interrupted)}
	case t := <-read:
		fmt.Fprintln(a.errOut)
		if t.err != nil {
			return nil, fmt.Errorf("the terminal cannot be read: %w", t.err)
		}
		return t.text, nil
	}
}
