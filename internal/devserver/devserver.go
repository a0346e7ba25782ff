// Package devserver runs a real Temporal server, and its web UI, inside this process on SQLite. The demo,
// `worker --embedded` and the end-to-end tests use it; production uses a Temporal of its own.
//
// Everything listens on loopback. Whoever reaches the UI or the gRPC port is an operator: neither has a login.
package devserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/server/chasm/lib/activity"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/common/resolver"
	"go.temporal.io/server/schema/sqlite"
	"go.temporal.io/server/temporal"
	"google.golang.org/protobuf/types/known/durationpb"
)

// retention is how long a closed workflow stays visible. Shorter than a rotation period on purpose: nothing
// in rekey may depend on visibility for a key's age.
const retention = 7 * 24 * time.Hour

// Options say where the server keeps its state and where it listens.
type Options struct {
	// DatabaseFile holds the state and survives restarts. Empty: in memory, gone with the process.
	DatabaseFile string
	// Namespace is created if it does not exist. Empty means "default".
	Namespace string
	// Port is the gRPC port on loopback; 0 takes a free one.
	Port int
	// UI starts the web UI beside the server, on UIPort (0 takes a free one).
	UI     bool
	UIPort int
	// SearchAttributes are registered in the namespace, and usable when Start returns.
	SearchAttributes map[string]enumspb.IndexedValueType
	// Trouble is told, in sentences for a person, what keeps the server from writing its database, and again every minute
	// while it does. It is called by many goroutines. Nil: nobody is told.
	Trouble func(string)
	// Faults make the server's own database fail, or lie; for tests.
	Faults []Fault
	// SkipTime lets workflows that were started with a TimeSkippingConfig skip the time of their timers; for tests. It is
	// experimental in Temporal (dynamic config frontend.WorkflowTimeSkippingEnabled in server 1.32).
	SkipTime bool
}

// Fault makes a method of the database's executions fail.
type Fault struct {
	// Method is one of Temporal's ExecutionStore, such as CreateWorkflowExecution.
	Method string
	// Kind is what Temporal's fault injection calls it: Timeout and Unavailable do nothing, ExecuteAndTimeout does what was
	// asked for and reports that it did not come back.
	Kind string
	// Rate is how often, from 0 to 1; Seed makes it the same each time.
	Rate float64
	Seed int64
}

// injection is the server's setting for faults; nil for none.
func injection(faults []Fault) *config.FaultInjection {
	if len(faults) == 0 {
		return nil
	}
	methods := map[string]config.FaultInjectionMethodConfig{}
	for _, f := range faults {
		m, ok := methods[f.Method]
		if !ok {
			m = config.FaultInjectionMethodConfig{Errors: map[string]float64{}, Seed: f.Seed}
		}
		m.Errors[f.Kind] = f.Rate
		methods[f.Method] = m
	}
	return &config.FaultInjection{Targets: config.FaultInjectionTargets{
		DataStores: map[config.DataStoreName]config.FaultInjectionDataStoreConfig{config.ExecutionStoreName: {Methods: methods}},
	}}
}

// Server is a running Temporal server. Stop it once.
type Server struct {
	inner     temporal.Server
	ui        *ui
	hostPort  string
	port      int
	namespace string
}

// Start brings the server up and returns when it answers and every search attribute can be used.
// On failure nothing keeps running.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Namespace == "" {
		o.Namespace = client.DefaultNamespace
	}
	inner, port, err := startTemporal(o)
	if err != nil {
		return nil, err
	}
	s := &Server{inner: inner, hostPort: fmt.Sprintf("127.0.0.1:%d", port), port: port, namespace: o.Namespace}
	if err := s.ready(ctx, o.Namespace, o.SearchAttributes); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	if o.UI {
		if s.ui, err = startUI(ctx, o.UIPort, s.hostPort, o.Namespace); err != nil {
			return nil, errors.Join(err, s.Stop())
		}
	}
	return s, nil
}

// startTemporal tries again with other ports when one that was free a moment ago is taken.
func startTemporal(o Options) (inner temporal.Server, port int, err error) {
	var refused error
	for range 5 {
		chosen, err := choosePorts(o.Port)
		if err != nil {
			return nil, 0, errors.Join(err, refused)
		}
		inner, err := startOn(o, chosen)
		if !errors.As(err, new(fatalError)) {
			return inner, chosen.frontend, err
		}
		refused = err
	}
	return nil, 0, refused
}

// startOn returns a fatalError if the server would have ended the process, as it does when it cannot listen.
func startOn(o Options, p ports) (temporal.Server, error) {
	cfg, sqlConfig, err := serverConfig(o, p)
	if err != nil {
		return nil, err
	}
	if err := prepareDatabase(sqlConfig, o); err != nil {
		return nil, err
	}
	// The server logs at length about things an embedding program cannot act on; what it can act on comes
	// back as an error from the client.
	var inner temporal.Server
	err = caught(func() error {
		var err error
		inner, err = temporal.NewServer(
			temporal.WithConfig(cfg),
			temporal.ForServices(temporal.DefaultServices),
			temporal.WithLogger(logger{log.NewNoopLogger(), &database{file: o.DatabaseFile, tell: o.Trouble, told: map[string]time.Time{}}}),
			temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
			temporal.WithDynamicConfigClient(dynamicConfig(o)),
		)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the embedded Temporal server cannot be built: %w", err)
	}
	if err := caught(inner.Start); err != nil {
		return nil, fmt.Errorf("the embedded Temporal server does not start: %w", err)
	}
	return inner, nil
}

// AddNamespace creates another namespace with the given search attributes, and returns when it can be used.
func (s *Server) AddNamespace(ctx context.Context, name string, attributes map[string]enumspb.IndexedValueType) error {
	c, err := client.NewNamespaceClient(client.Options{HostPort: s.hostPort, Logger: quiet})
	if err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	defer c.Close()
	if err := c.Register(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(retention),
	}); err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	return s.ready(ctx, name, attributes)
}

// HostPort is the address of the gRPC frontend.
func (s *Server) HostPort() string { return s.hostPort }

// Port is the port of the gRPC frontend.
func (s *Server) Port() int { return s.port }

// Namespace is the namespace that Start created.
func (s *Server) Namespace() string { return s.namespace }

// UIURL is the address of the web UI; empty if it was not asked for.
func (s *Server) UIURL() string {
	if s.ui == nil {
		return ""
	}
	return s.ui.url
}

// Stop ends the UI and the server. Clients must be closed before.
func (s *Server) Stop() error {
	if s.ui != nil {
		s.ui.stop()
	}
	return s.inner.Stop()
}

// ready waits until the frontend answers, the namespace exists and the search attributes are registered.
// A database file from an older rekey may lack some: those are added here.
func (s *Server) ready(ctx context.Context, namespace string, want map[string]enumspb.IndexedValueType) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := client.DialContext(ctx, client.Options{HostPort: s.hostPort, Namespace: namespace, Logger: quiet})
	if err != nil {
		return fmt.Errorf("the embedded Temporal server does not answer on %s: %w", s.hostPort, err)
	}
	defer c.Close()
	for asked := false; ; {
		have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
		if err == nil {
			missing := maps.Clone(want)
			maps.DeleteFunc(missing, func(name string, kind enumspb.IndexedValueType) bool {
				return have.GetCustomAttributes()[name] == kind
			})
			if len(missing) == 0 {
				return nil
			}
			if !asked {
				_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
					Namespace: namespace, SearchAttributes: missing,
				})
				asked = err == nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the search attributes of the embedded Temporal server did not become usable: %w", errors.Join(ctx.Err(), err))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func serverConfig(o Options, p ports) (*config.Config, *config.SQL, error) {
	sqlConfig := &config.SQL{
		PluginName:        sqliteplugin.PluginName,
		ConnectAttributes: map[string]string{"mode": "memory", "cache": "shared"},
		DatabaseName:      uuid.NewString(),
	}
	if o.DatabaseFile != "" {
		file, err := filepath.Abs(o.DatabaseFile)
		if err != nil {
			return nil, nil, fmt.Errorf("database file %s: %w", o.DatabaseFile, err)
		}
		// WAL with synchronous=full: a rotation that Temporal acknowledged survives a power cut, and kill -9.
		sqlConfig.ConnectAttributes = map[string]string{
			"mode": "rwc", "journal_mode": "wal", "synchronous": "full", "busy_timeout": "10000",
		}
		sqlConfig.DatabaseName = file
	}
	frontend := fmt.Sprintf("127.0.0.1:%d", p.frontend)
	cfg := &config.Config{
		Global: config.Global{Membership: config.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: "127.0.0.1"}},
		Persistence: config.Persistence{
			DefaultStore: sqliteplugin.PluginName, VisibilityStore: sqliteplugin.PluginName, NumHistoryShards: 1,
			DataStores: map[string]config.DataStore{sqliteplugin.PluginName: {SQL: sqlConfig, FaultInjection: injection(o.Faults)}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10, MasterClusterName: "active", CurrentClusterName: "active",
			ClusterInformation: map[string]cluster.ClusterInformation{
				"active": {Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            map[string]config.Service{},
		PublicClient:        config.PublicClient{HostPort: frontend},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: "disabled"},
			Visibility: config.VisibilityArchival{State: "disabled"},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: "disabled"},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: "disabled"},
		}},
	}
	for i, name := range temporal.DefaultServices {
		rpc := config.RPC{BindOnIP: "127.0.0.1", GRPCPort: p.grpc[i], MembershipPort: p.membership[i]}
		if name == string(primitives.FrontendService) {
			rpc.GRPCPort = p.frontend
		}
		cfg.Services[name] = config.Service{RPC: rpc}
	}
	return cfg, sqlConfig, nil
}

// dynamicConfig departs from the defaults where they are made for a shared cluster with many tenants.
func dynamicConfig(o Options) dynamicconfig.StaticClient {
	// What cleans up in long-lived clusters ends the process if its own workflows cannot be started.
	cleans := len(o.Faults) == 0
	settings := dynamicconfig.StaticClient{
		dynamicconfig.TaskQueueScannerEnabled.Key(): cleans,
		dynamicconfig.HistoryScannerEnabled.Key():   cleans,
		dynamicconfig.BuildIdScavengerEnabled.Key(): cleans,
		// Nothing here starts an activity outside a workflow. Whoever else does is up to no good.
		activity.Enabled.Key(): false,
		// At 20, a poll every 50 ms sits between any two steps of a workflow.
		dynamicconfig.TransferProcessorMaxPollRPS.Key(): 2000,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():    2000,
		// One process needs no partitions; between them a task waits to be forwarded to where somebody polls.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
		// Temporal 1.32.1 tells a waiting client of news through a channel of one place (service/history/events): what
		// comes while the news before it still lies there is dropped, and if that was the end of the workflow, the
		// client learns of it only when its long poll is over and it asks again. About one wait in fifty of a client that
		// starts a workflow and waits for it would last the default of 20 s. What else ends with this interval, Updates
		// that wait for a worker, clients ask for again as well; a waiting client costs one small request a second.
		dynamicconfig.HistoryLongPollExpirationInterval.Key(): time.Second,
		// A search attribute is usable as soon as it is registered.
		dynamicconfig.ForceSearchAttributesCacheRefreshOnRead.Key(): true,
		// An emergency over many keys comes from one client.
		dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key():        20000,
		dynamicconfig.FrontendMaxNamespaceBurstRatioPerInstance.Key(): 2.0,
		dynamicconfig.FrontendRPS.Key():                               20000,
		// The database is in this process. At the defaults a plan of a thousand schedules is throttled by its reads.
		dynamicconfig.FrontendPersistenceMaxQPS.Key(): 100000,
		dynamicconfig.MatchingPersistenceMaxQPS.Key(): 100000,
		dynamicconfig.HistoryPersistenceMaxQPS.Key():  100000,
		dynamicconfig.WorkerPersistenceMaxQPS.Key():   100000,
	}
	if o.SkipTime {
		settings[dynamicconfig.WorkflowTimeSkippingEnabled.Key()] = true
		// A timer fires up to so much late, in case that clocks of several hosts differ.
		settings[dynamicconfig.TimerProcessorMaxTimeShift.Key()] = 5 * time.Millisecond
	}
	return settings
}

// prepareDatabase creates schema and namespace. An in-memory database gets its schema from the plugin.
func prepareDatabase(sqlConfig *config.SQL, o Options) error {
	if o.DatabaseFile != "" {
		if err := prepareFile(sqlConfig); err != nil {
			return fmt.Errorf("database file %s: %w", o.DatabaseFile, err)
		}
	}
	ns, err := sqlite.NewNamespaceConfig("active", o.Namespace, false, o.SearchAttributes)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", o.Namespace, err)
	}
	ns.Detail.Config.Retention.Seconds = int64(retention / time.Second)
	if err := sqlite.CreateNamespaces(sqlConfig, ns); err != nil {
		return fmt.Errorf("namespace %s: %w", o.Namespace, err)
	}
	return nil
}

func prepareFile(sqlConfig *config.SQL) error {
	if err := os.MkdirAll(filepath.Dir(sqlConfig.DatabaseName), 0o700); err != nil {
		return err
	}
	_, err := os.Stat(sqlConfig.DatabaseName)
	if errors.Is(err, os.ErrNotExist) {
		return createDatabase(*sqlConfig)
	}
	if err != nil {
		return err
	}
	return forgetMembers(sqlConfig)
}

// forgetMembers removes the services that the server before this one announced in the file. They are gone with its
// process; without this the new server tries for half a minute to join them.
func forgetMembers(sqlConfig *config.SQL) error {
	db, err := sql.NewSQLDB(sqlplugin.DbKindMain, sqlConfig, resolver.NewNoopResolver(), log.NewNoopLogger(), metrics.NoopMetricsHandler)
	if err != nil {
		return err
	}
	_, err = db.PruneClusterMembership(context.Background(), &sqlplugin.PruneClusterMembershipFilter{
		PruneRecordsBefore: time.Now().AddDate(100, 0, 0),
	})
	return errors.Join(err, db.Close())
}

// createDatabase builds the schema in a temporary file and renames it, so that a process killed half-way
// never leaves a database with half a schema behind.
func createDatabase(c config.SQL) error {
	file := c.DatabaseName
	c.DatabaseName = file + ".new"
	c.ConnectAttributes = map[string]string{"mode": "rwc"}
	if err := os.Remove(c.DatabaseName); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// SQLite would create it with the umask's mode; histories name keys and people.
	f, err := os.OpenFile(c.DatabaseName, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := sqlite.SetupSchema(&c); err != nil {
		return err
	}
	return os.Rename(c.DatabaseName, file)
}

// quiet drops the SDK's log lines of the readiness check.
var quiet = sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))
