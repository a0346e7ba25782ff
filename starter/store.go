package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
)

func (a *app) stores() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look into a store; put a first value into a local one, read it, accept a restored file",
		Long: `list works on every store and never shows a value. put, get and accept are for stores of type local: other stores have
tools of their own for that. Run them as the user, and on the machine, that the store's files belong to.`,
		Example: `  rekey store list local openai-prod
  rekey store put local openai-prod
  rekey store accept local`,
		// cobra would take a command that does not exist for a call for help.
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return badInput("rekey store has no command %q; it has list, put, get and accept", args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(a.storeList(), a.storePut(), a.storeGet(), a.storeAccept())
	return cmd
}

// storeAccess is a store of rekey.yaml, not opened yet.
type storeAccess struct {
	config.Store
	name string
	cfg  *config.Config
}

// storeAccess finds the store that a command line names.
func (a *app) storeAccess(name string) (*storeAccess, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	found, ok := cfg.Stores[name]
	if !ok {
		return nil, badInput("%s has no store %q; it has %s", a.configFile, name, strings.Join(slices.Sorted(maps.Keys(cfg.Stores)), ", "))
	}
	return &storeAccess{Store: found, name: name, cfg: cfg}, nil
}

// paths are those of the keys that rekey.yaml keeps in the store.
func (s *storeAccess) paths() []string {
	var paths []string
	for _, k := range s.cfg.Keys {
		for _, l := range k.Stores {
			if l.Store == s.name {
				paths = append(paths, l.Path)
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// keyAt finds the key whose value lies at a path.
func (s *storeAccess) keyAt(path string) (rotation.Key, error) {
	i := slices.IndexFunc(s.cfg.Keys, func(k rotation.Key) bool {
		return slices.Contains(k.Stores, rotation.Location{Store: s.name, Path: path})
	})
	if i < 0 {
		return rotation.Key{}, badInput("no key in the file has path %q in store %s; the paths there are: %s. Add the key first: its provider says what its values look like",
			path, s.name, strings.Join(s.paths(), ", "))
	}
	return s.cfg.Keys[i], nil
}

// open opens the store and the providers named: nothing else of the file is needed, nor credentials for it. A local store
// that is not there is made only if that is wanted.
func (s *storeAccess) open(ctx context.Context, create bool, providers ...string) (*activities.Environment, store.Store, error) {
	only := *s.cfg
	only.Stores, only.Providers = map[string]config.Store{s.name: s.Store}, map[string]config.Provider{}
	for _, name := range providers {
		only.Providers[name] = s.cfg.Providers[name]
	}
	acts, err := adapters.Look(ctx, &only)
	if create {
		var opened *engine.Setup
		if opened, err = adapters.Open(ctx, &only, nil); err == nil {
			acts = opened.Environment
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return acts, acts.Stores[s.name], nil
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
		Use:   "list STORE PATH",
		Short: "Show the versions of a path, with their stages and fingerprints, without values",
		Long: `Shows every version of a path that can be read: its number, its stage (pending, current, previous or none), its
fingerprint and the provider's id of the key, as far as the store's record knows them. It never shows a value.`,
		Example: `  rekey store list gsm-prod openai-prod
  rekey store list local openai-prod --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.storeAccess(args[0])
			if err != nil {
				return err
			}
			_, opened, err := s.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			path := args[1]
			snap, err := opened.Load(cmd.Context(), path)
			if err != nil {
				return s.explained(err)
			}
			numbers, err := opened.Versions(cmd.Context(), path)
			if err != nil {
				return s.explained(err)
			}
			versions := versionsOf(snap.Record, numbers)
			if s.Type == config.Local {
				// The record does not know what was put there by hand; to look costs nothing here.
				fingerprint(cmd.Context(), opened, path, versions)
			}
			var b strings.Builder
			fmt.Fprintf(&b, "%s:%s: %d version(s) that can be read\n", s.name, path, len(numbers))
			for _, v := range versions {
				fmt.Fprintf(&b, "  %-8s %-9s %-12s %s\n", v.Number, v.Stage, v.Fingerprint, v.KeyID)
			}
			if n := len(snap.Duties); n > 0 {
				fmt.Fprintf(&b, "  %d key(s) wait to be revoked\n", n)
			}
			return a.print(map[string]any{"store": s.name, "path": path, "versions": versions, "duties": snap.Duties}, strings.TrimSuffix(b.String(), "\n"))
		},
	}
}

func versionsOf(r store.Record, numbers []string) []listedVersion {
	versions := []listedVersion{}
	for _, n := range numbers {
		v := listedVersion{Number: n}
		// What applications read comes last, so that it wins.
		for _, s := range []struct {
			stage   string
			version *store.Version
		}{{"previous", r.Previous}, {"pending", r.Pending}, {"current", r.Current}} {
			if s.version != nil && s.version.Number == n {
				v = listedVersion{Number: n, Stage: s.stage, Fingerprint: s.version.Fingerprint, KeyID: s.version.KeyID, Rotation: s.version.Rotation, StagedAt: s.version.StagedAt}
			}
		}
		versions = append(versions, v)
	}
	return versions
}

// fingerprint reads the versions whose fingerprint the record does not know. One that cannot be read stays without.
func fingerprint(ctx context.Context, s store.Store, path string, versions []listedVersion) {
	for i, v := range versions {
		if v.Fingerprint != "" {
			continue
		}
		if value, err := s.Read(ctx, path, v.Number); err == nil {
			versions[i].Fingerprint = value.Fingerprint()
		}
	}
}
