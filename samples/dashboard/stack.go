package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/client"

	"github.com/atmostonce/atmostonce/samples/internal/child"
	"github.com/atmostonce/atmostonce/samples/internal/devserver"
	"github.com/atmostonce/atmostonce/samples/internal/tool"
	"github.com/atmostonce/atmostonce/store/redisstore"
	"github.com/atmostonce/atmostonce/telemetry/dashboard"
)

// stack is the servers around the workers. Everything listens on 127.0.0.1.
type stack struct {
	Dir        string
	Temporal   *devserver.Server
	ViewerURL  string
	MetricsURL string // of VictoriaMetrics
	AlertsURL  string
	// DashboardURL is where a browser finds the dashboard.
	DashboardURL string

	redis     *child.Process
	redisAddr string
	store     *redisstore.Store
	otlp      string // where the viewer takes spans
	own       *instruments
	client    client.Client

	failed  chan error // what went wrong beside the sagas
	closing atomic.Bool

	mu      sync.Mutex
	targets []string // to scrape
	closers []func()
}

// open starts them all. The caller ends them by Close.
func open(ctx context.Context, dir string, progress io.Writer) (_ *stack, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	s := &stack{Dir: dir, failed: make(chan error, 100)}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, start := range []func(context.Context, io.Writer) error{
		s.startTemporal, s.startViewer, s.startMetrics, s.startAlerts, s.startPage, s.startStore, s.connect,
	} {
		if err = start(ctx, progress); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close ends what was started, the last first.
func (s *stack) Close() {
	s.closing.Store(true)
	for _, end := range slices.Backward(s.closers) {
		end()
	}
	s.closers = nil
}

func (s *stack) onClose(f func()) { s.closers = append(s.closers, f) }

func (s *stack) startTemporal(ctx context.Context, progress io.Writer) (err error) {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	// With a port of its own it is never the server that TEMPORAL_ADDRESS names.
	s.Temporal, err = devserver.Start(ctx, devserver.Options{UI: true, Port: ports[0], LogFile: filepath.Join(s.Dir, "temporal.log"), Progress: progress})
	if err == nil {
		s.onClose(s.Temporal.Stop)
	}
	return err
}

func (s *stack) startViewer(ctx context.Context, progress io.Writer) error {
	binary, err := tool.TraceViewer.Binary(ctx, progress)
	if err != nil {
		return err
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	viewer, err := s.serve(ctx, "viewer", ports[0], binary, "--host", "127.0.0.1", "--open-browser=false",
		"--browser-port", strconv.Itoa(ports[0]), "--grpc", strconv.Itoa(ports[1]), "--http", strconv.Itoa(ports[2]))
	if err != nil {
		return err
	}
	s.ViewerURL, s.otlp = "http://"+local(ports[0]), local(ports[2])
	return child.AwaitListener(ctx, viewer, s.otlp)
}

func (s *stack) startMetrics(ctx context.Context, progress io.Writer) error {
	binary, err := tool.VictoriaMetrics.Binary(ctx, progress)
	if err != nil {
		return err
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	if err := s.writeScrapeConfig(); err != nil {
		return err
	}
	s.MetricsURL = "http://" + local(ports[0])
	_, err = s.serve(ctx, "victoria-metrics", ports[0], binary, "-storageDataPath="+filepath.Join(s.Dir, "metrics"), "-httpListenAddr="+local(ports[0]),
		"-promscrape.config="+s.scrapeConfig(), "-promscrape.fileSDCheckInterval=1s",
		"-promscrape.noStaleMarkers", // what a worker counted before it was killed is to be seen
		"-search.latencyOffset=0s", "-loggerLevel=WARN")
	return err
}

func (s *stack) startAlerts(ctx context.Context, progress io.Writer) error {
	binary, err := tool.VMAlert.Binary(ctx, progress)
	if err != nil {
		return err
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.rulesFile(), alerts(), 0o600); err != nil {
		return err
	}
	s.AlertsURL = "http://" + local(ports[0]) + "/vmalert/alerts"
	_, err = s.serve(ctx, "vmalert", ports[0], binary, "-rule="+s.rulesFile(), "-httpListenAddr="+local(ports[0]),
		"-datasource.url="+s.MetricsURL, "-remoteWrite.url="+s.MetricsURL, "-evaluationInterval=2s",
		"-datasource.queryStep=5s", // what a killed worker said of the records is not so any more
		"-notifier.blackhole", "-loggerLevel=WARN")
	return err
}

// alerts returns the rules. The sample's operator needs seconds, not minutes: a doubt
// that is six seconds old is worth an alert here.
func alerts() []byte { return bytes.ReplaceAll(dashboard.Alerts, []byte("> 300"), []byte("> 6")) }

func (s *stack) startStore(ctx context.Context, _ io.Writer) (err error) {
	if s.redis, s.redisAddr, err = child.Redis(ctx, filepath.Join(s.Dir, "store")); err != nil {
		return err
	}
	s.onClose(func() { s.redis.Stop(5 * time.Second) })
	s.store, err = openStore(s.redisAddr)
	return err
}

// openStore returns the store on a Redis. A call fails soon when it hangs.
func openStore(address string) (*redisstore.Store, error) {
	return redisstore.New(redis.NewClient(&redis.Options{
		Addr: address, ContextTimeoutEnabled: true, ReadTimeout: time.Second, MaxRetries: -1,
	}), redisstore.Options{})
}

// connect makes the client that starts workflows.
func (s *stack) connect(ctx context.Context, _ io.Writer) (err error) {
	if s.own, err = newInstruments(ctx, "shop", s.otlp); err != nil {
		return err
	}
	s.onClose(s.own.Close)
	if err := s.scrape(s.own.Address); err != nil {
		return err
	}
	s.client, err = s.own.dial(ctx, client.Options{HostPort: s.Temporal.Address, Logger: quiet})
	if err == nil {
		s.onClose(s.client.Close)
	}
	return err
}

// serve starts a server, and returns when it listens on the port.
func (s *stack) serve(ctx context.Context, name string, port int, binary string, args ...string) (*child.Process, error) {
	log, err := os.Create(filepath.Join(s.Dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, s.Dir
	p, err := child.Start(cmd)
	if err != nil {
		return nil, err
	}
	s.onClose(func() { p.Stop(5 * time.Second) })
	if err := child.AwaitListener(ctx, p, local(port)); err != nil {
		return nil, fmt.Errorf("%s (its log: %s): %w", name, log.Name(), err)
	}
	go func() {
		<-p.Done()
		if !s.closing.Load() {
			s.failed <- fmt.Errorf("%s ended by itself (its log: %s): %w", name, log.Name(), p.Err())
		}
	}()
	return p, nil
}

func (s *stack) scrapeConfig() string { return filepath.Join(s.Dir, "scrape.yml") }
func (s *stack) rulesFile() string    { return filepath.Join(s.Dir, "alerts.yml") }
func (s *stack) targetsFile() string  { return filepath.Join(s.Dir, "targets.json") }

// writeScrapeConfig writes what VictoriaMetrics and Prometheus read alike.
func (s *stack) writeScrapeConfig() error {
	config := "scrape_configs:\n- job_name: orders\n  scrape_interval: 1s\n  scrape_timeout: 1s\n" +
		"  file_sd_configs: [{files: ['" + s.targetsFile() + "']}]\n"
	return errors.Join(s.writeTargets(), os.WriteFile(s.scrapeConfig(), []byte(config), 0o600))
}

// scrape adds an address to what is scraped; forget takes it away.
func (s *stack) scrape(address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets = append(s.targets, address)
	return s.writeTargets()
}

func (s *stack) forget(address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets = slices.DeleteFunc(s.targets, func(t string) bool { return t == address })
	return s.writeTargets()
}

func (s *stack) writeTargets() error {
	type group struct {
		Targets []string `json:"targets"`
	}
	text, err := json.Marshal([]group{{slices.Concat([]string{}, s.targets)}})
	if err != nil {
		return err
	}
	// Renamed, so that nobody reads half of it.
	partial := s.targetsFile() + ".partial"
	return errors.Join(os.WriteFile(partial, text, 0o600), os.Rename(partial, s.targetsFile()))
}

// listen serves HTTP on a free port, and returns the address.
func listen(ctx context.Context, h http.Handler) (address string, stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), func() { _ = server.Close() }, nil
}

func freePorts(n int) (ports []int, err error) {
	for range n {
		port, err := child.FreePort()
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func local(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
