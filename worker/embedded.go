//go:build !noembed

package main

import (
	"context"
	"fmt"
	"io"

	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/workflows"
)

// noServer says why this build cannot bring a Temporal of its own; nil if it can.
var noServer error

// startEmbedded starts the Temporal of this process and its UI, and returns how to reach it; stop ends both.
func startEmbedded(ctx context.Context, o options, namespace string, setup *engine.Setup, logs io.Writer) (reach sdkclient.Options, stop func(), err error) {
	server, err := devserver.Start(ctx, devserver.Options{
		DatabaseFile: o.database, Namespace: namespace, Port: o.port, UI: true, UIPort: o.uiPort,
		SearchAttributes: workflows.SearchAttributes(),
		Trouble:          func(text string) { fmt.Fprintln(logs, text) },
	})
	if err != nil {
		return reach, nil, err
	}
	if setup.UI == "" {
		setup.UI = server.UIURL()
	}
	fmt.Fprintf(logs, "Temporal on %s, UI on %s/namespaces/%s/workflows\n", server.HostPort(), server.UIURL(), server.Namespace())
	return server.ClientOptions(), func() { _ = server.Stop() }, nil
}
