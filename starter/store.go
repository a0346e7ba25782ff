package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/local"
)

func (a *app) stores() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look into a store; bring a first value into a local one, read it, accept a restored file",
		Long: `list works on every store and never shows a value. put, get and accept are for stores of type local: other stores have
tools of their own for that.`,
	}
	cmd.AddCommand(a.storeList(), a.storePut(), a.storeGet(), a.storeAccept())
	return cmd
}

// place is a path in a store of rekey.yaml.
type place struct {
	name, path string
	store      store.Store
	acts       *activities.Activities
	cfg        *config.Config
}

// at finds the store that a command line names.
func (a *app) at(ctx context.Context, args []string) (*place, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	if _, ok := cfg.Stores[args[0]]; !ok {
		var names []string
		for name := range cfg.Stores {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, badInput("%s has no store %q; it has %s", a.configFile, args[0], strings.Join(names, ", "))
	}
	acts, err := cfg.Open(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &place{name: args[0], path: args[1], store: acts.Stores[args[0]], acts: acts, cfg: cfg}, nil
}

// local is the store, if it is a local one.
func (p *place) local(what, instead string) (*local.Store, error) {
	s, ok := p.store.(*local.Store)
	if !ok {
		return nil, badInput("%s is for stores of type local; %s is of type %s. %s", what, p.name, p.cfg.Stores[p.name].Type, instead)
	}
	return s, nil
}

func (p *place) String() string { return p.name + ":" + p.path }

// rejected gives a fault that the caller's input caused its exit code.
func rejected(err error) error {
	if fault.Is(err, fault.Rejected) || fault.Is(err, fault.NotFound) {
		return &exit{exitBadInput, err}
	}
	return err
}

// listedVersion is a version without its value.
type listedVersion struct {
	Number      string    `json:"number"`
	Stage       string    `json:"stage,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	KeyID       string    `json:"keyId,omitempty"`
	Rotation    string    `json:"rotation,omitempty"`
	StagedAt    time.Time `json:"stagedAt,omitzero"`
}

func (a *app) storeList() *cobra.Command {
	return &cobra.Command{
		Use:     "list STORE PATH",
		Short:   "Show the versions of a path, with their stages and fingerprints, without values",
		Example: "  starter store list gsm-prod openai-prod",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.at(cmd.Context(), args)
			if err != nil {
				return err
			}
			snap, err := p.store.Load(cmd.Context(), p.path)
			if err != nil {
				return rejected(err)
			}
			numbers, err := p.store.Versions(cmd.Context(), p.path)
			if err != nil {
				return rejected(err)
			}
			versions := versionsOf(snap.Record, numbers)
			var b strings.Builder
			fmt.Fprintf(&b, "%s: %d version(s) that can be read\n", p, len(numbers))
			for _, v := range versions {
				fmt.Fprintf(&b, "  %-8s %-9s %-12s %s\n", v.Number, v.Stage, v.Fingerprint, v.KeyID)
			}
			if n := len(snap.Duties); n > 0 {
				fmt.Fprintf(&b, "  %d key(s) wait to be revoked\n", n)
			}
			return a.print(map[string]any{"store": p.name, "path": p.path, "versions": versions, "duties": snap.Duties}, strings.TrimSuffix(b.String(), "\n"))
		},
	}
}

func versionsOf(r store.Record, numbers []string) []listedVersion {
	stages := map[string]*store.Version{"pending": r.Pending, "current": r.Current, "previous": r.Previous}
	versions := []listedVersion{}
	for _, n := range numbers {
		v := listedVersion{Number: n}
		for stage, s := range stages {
			if s != nil && s.Number == n {
				v = listedVersion{Number: n, Stage: stage, Fingerprint: s.Fingerprint, KeyID: s.KeyID, Rotation: s.Rotation, StagedAt: s.StagedAt}
			}
		}
		versions = append(versions, v)
	}
	return versions
}

func (a *app) storePut() *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use:   "put STORE PATH",
		Short: "Make a value that you have the one that applications read (local stores)",
		Long: `Reads a value from a prompt that does not show it, or from standard input, and makes it current without a rotation: that
is how a key that exists already comes into a local store. If rekey.yaml has a key at this path, the value must look
like a key of its provider.`,
		Example: `  starter store put local openai-prod
  starter store put local ci-deploy < key.json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.at(cmd.Context(), args)
			if err != nil {
				return err
			}
			s, err := p.local("put", "Add the first version there with the store's own tool, then run starter rotate.")
			if err != nil {
				return err
			}
			snap, err := s.Load(cmd.Context(), p.path)
			if err != nil {
				return rejected(err)
			}
			if snap.Current != nil && !replace {
				return refused("applications read a value at %s already. To replace a key without a failed request, rotate it; to overwrite the value all the same, say --replace", p)
			}
			value, err := a.readKey(cmd.Context(), p.String())
			if err == nil {
				value, err = p.clean(value)
			}
			if err != nil {
				return rejected(err)
			}
			number, err := s.Put(cmd.Context(), p.path, value)
			if err != nil {
				return rejected(err)
			}
			return a.print(map[string]string{"store": p.name, "path": p.path, "version": number, "fingerprint": value.Fingerprint()},
				fmt.Sprintf("Applications read %s at %s now, as version %s.", value.Fingerprint(), p, number))
		},
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "overwrite what applications read now; the old value stays as a version and its key stays live")
	return cmd
}

// clean takes quotes and white space off a value, if a provider is known that can tell.
func (p *place) clean(v secret.Value) (secret.Value, error) {
	for _, k := range p.cfg.Keys {
		if !slices.Contains(k.Stores, rotation.Location{Store: p.name, Path: p.path}) {
			continue
		}
		parsed, err := p.acts.Providers[k.Provider].Parse(v)
		return parsed.Value, err
	}
	return v, nil
}

func (a *app) storeGet() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "get STORE PATH",
		Short: "Print the value that applications read (local stores)",
		Long: `For the start script of an application that cannot read the store itself. The value goes to standard output without
a newline. On a terminal it is printed only with --show: a key on a screen is in its scroll-back, and in recordings.`,
		Example: `  export OPENAI_API_KEY="$(starter store get local openai-prod)"`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.at(cmd.Context(), args)
			if err != nil {
				return err
			}
			s, err := p.local("get", "Let the application read it from there.")
			if err != nil {
				return err
			}
			if isTerminal(a.out) && !show {
				return badInput("this would print a key on the screen. Pipe it to where it is needed, or say --show")
			}
			if a.json {
				return badInput("get prints the value and nothing else; leave --json out")
			}
			value, err := s.Published(cmd.Context(), p.path)
			if err != nil {
				return rejected(err)
			}
			_, err = fmt.Fprint(a.out, value.Reveal())
			return err
		},
	}
	cmd.Flags().BoolVar(&show, "show", false, "print it on a terminal, too")
	return cmd
}

func (a *app) storeAccept() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "accept STORE PATH",
		Short: "Take a restored, copied or lost file of a local store as it is now",
		Long: `rekey stops when a file of a local store is older than it was, came from somewhere else, or is gone: it may hold a key that
is revoked, and miss the newest. When you have put the right file in place, or know that there is none, accept takes
it as it is. Stop the worker before. Then ask with starter doctor whether the provider accepts the value.`,
		Example: "  starter store accept local openai-prod",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.at(cmd.Context(), args)
			if err != nil {
				return err
			}
			s, err := p.local("accept", "Nothing of it can be restored behind rekey's back.")
			if err != nil {
				return err
			}
			if !yes {
				question := fmt.Sprintf("From now on %s counts as it is on the disk now. Type the path (%s) to accept it: ", p, p.path)
				if !a.confirm(question, p.path) {
					return refused("not confirmed; nothing was changed")
				}
			}
			if err := s.Accept(cmd.Context(), p.path); err != nil {
				return rejected(err)
			}
			return a.print(map[string]string{"store": p.name, "path": p.path, "outcome": "accepted"},
				fmt.Sprintf("%s is accepted as it is. Start the worker, then ask whether the provider accepts the value: starter doctor", p))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
