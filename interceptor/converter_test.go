package interceptor

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/store"
)

// The SDK asks a data converter for optional interfaces, which a wrapper must pass
// on. Its own wrappers show which there are: a method that one of them has and the
// watch has not is a new one.
func TestWatch_HasEveryOptionalInterfaceOfTheSDK(t *testing.T) {
	t.Parallel()
	dc := converter.GetDefaultDataConverter()
	required := reflect.TypeFor[converter.DataConverter]()
	ours := reflect.TypeFor[*watch]()
	optional := map[string]bool{}
	for _, theirs := range []converter.DataConverter{
		dc, converter.NewCodecDataConverter(dc), workflow.DataConverterWithoutDeadlockDetection(dc),
		converter.NewRemoteDataConverter(dc, converter.RemoteDataConverterOptions{}),
	} {
		kind := reflect.TypeOf(theirs)
		for i := range kind.NumMethod() {
			m := kind.Method(i)
			if _, in := required.MethodByName(m.Name); in {
				continue
			}
			optional[m.Name] = true
			own, has := ours.MethodByName(m.Name)
			require.True(t, has, "%v has %s", kind, m.Name)
			require.Equal(t, reflect.ValueOf(theirs).Method(i).Type(), reflect.New(ours.Elem()).Method(own.Index).Type(), m.Name)
		}
	}
	require.Contains(t, optional, "WithSerializationContext")
	require.Contains(t, optional, "WithContext")
}

// provider has all optional interfaces, and says which was asked.
type provider struct {
	converter.DataConverter
	asked *[]string
}

func (p provider) WithContext(context.Context) converter.DataConverter {
	*p.asked = append(*p.asked, "context")
	return p
}

func (p provider) WithWorkflowContext(workflow.Context) converter.DataConverter {
	*p.asked = append(*p.asked, "workflow")
	return p
}

func (p provider) WithSerializationContext(converter.SerializationContext) converter.DataConverter {
	*p.asked = append(*p.asked, "serialization")
	return p
}

func (p provider) Codec() converter.PayloadCodec { return sealing{} }

func TestWatch_ForwardsWhatTheClientsConverterOffers(t *testing.T) {
	t.Parallel()
	var asked []string
	var dc converter.DataConverter = &watch{DataConverter: provider{converter.GetDefaultDataConverter(), &asked}}
	dc = dc.(converter.DataConverterWithSerializationContext).WithSerializationContext(converter.ActivitySerializationContext{})
	dc = dc.(workflow.ContextAware).WithContext(context.WithValue(t.Context(), captureKey{}, &capture{}))
	dc = dc.(workflow.ContextAware).WithWorkflowContext(nil)
	require.Equal(t, []string{"serialization", "context", "workflow"}, asked)
	require.Equal(t, sealing{}, dc.(*watch).Codec())
	require.NotNil(t, dc.(*watch).capture)

	plain := &watch{DataConverter: converter.NewCompositeDataConverter(converter.NewJSONPayloadConverter())}
	require.Nil(t, plain.Codec())
	require.Same(t, plain, plain.WithSerializationContext(converter.ActivitySerializationContext{}))
	require.Same(t, plain, plain.WithContext(t.Context()))
}

// away is a codec server that does not answer the next calls.
type away struct {
	sealing
	calls *int
}

// WithSerializationContext keeps it away.
func (a away) WithSerializationContext(sc converter.SerializationContext) converter.PayloadCodec {
	a.sealing = a.sealing.WithSerializationContext(sc).(sealing)
	return a
}

var errAway = errors.New("the codec server does not answer")

func (a away) miss() error {
	if *a.calls > 0 {
		*a.calls--
		return errAway
	}
	return nil
}

func (a away) Encode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
	if err := a.miss(); err != nil {
		return nil, err
	}
	return a.sealing.Encode(ps)
}

func (a away) Decode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
	if err := a.miss(); err != nil {
		return nil, err
	}
	return a.sealing.Decode(ps)
}

// A codec that is away for a while does not make the guard believe that the
// converter does not know raw values: it would make other keys from then on.
func TestDigest_ACodecThatIsAwayIsAskedAgain(t *testing.T) {
	t.Parallel()
	for missed := range 12 {
		t.Run(fmt.Sprint(missed), func(t *testing.T) {
			t.Parallel()
			calls := 0
			c := codec{converters: newConverters(converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), away{calls: &calls}), nil), where: targetOf(infoOf(""))}
			wire, err := c.inputs(t.Context()).ToPayloads("input")
			require.NoError(t, err)
			want, err := c.digest(t.Context(), nil, []any{"input"})
			require.NoError(t, err)
			calls = missed
			for range missed {
				got, err := c.digest(t.Context(), wire, []any{"input"})
				if err != nil {
					require.ErrorIs(t, err, errAway)
					require.NotErrorIs(t, err, engine.ErrArgument, "a later attempt can read it")
					continue
				}
				require.Equal(t, want, got)
			}
			got, err := c.digest(t.Context(), wire, []any{"input"})
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.EqualValues(t, passesRawValues, c.raw.known.Load())
		})
	}
}

func TestSeal_RestsUnderTheOptionsConverterToo(t *testing.T) {
	t.Parallel()
	conv := newConverters(nil, nil)
	conv.rest = converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), sealing{})
	first, second := codec{converters: conv, where: targetOf(infoOf("order-7"))}, codec{converters: conv, where: targetOf(infoOf("order-8"))}

	o, answer, err := first.encode(t.Context(), "plaintext", 1<<20)
	require.NoError(t, err)
	require.NotContains(t, string(o.Data), "plaintext")
	require.Contains(t, answer.(*commonpb.Payloads).String(), "plaintext", "as the client encodes it")
	failed, _ := first.encodeFailure(t.Context(), errors.New("plaintext"))
	require.NotContains(t, string(failed.Data), "plaintext")
	calls := 100
	broken := newConverters(nil, nil)
	broken.rest = converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), away{calls: &calls})
	require.Equal(t, store.Outcome{State: store.InDoubt}, codec{converters: broken, where: targetOf(infoOf("order-7"))}.doubt(t.Context(), errors.New("plaintext")))
	require.Equal(t, 99, calls, "a codec that is away is asked once")
	doubt := first.doubt(t.Context(), errors.New("plaintext"))
	require.NotEmpty(t, doubt.Data)
	require.NotContains(t, string(doubt.Data), "plaintext")
	for _, c := range []codec{first, second} {
		require.ErrorContains(t, c.cause(t.Context(), doubt), "plaintext")
		result, failure, err := c.replay(t.Context(), o)
		require.NoError(t, err)
		require.NoError(t, failure)
		require.Equal(t, answer.(*commonpb.Payloads).String(), result.(*commonpb.Payloads).String())
		_, failure, err = c.replay(t.Context(), failed)
		require.NoError(t, err)
		require.ErrorContains(t, failure, "plaintext")
	}
	nothing, _, err := first.encode(t.Context(), nil, 1<<20)
	require.NoError(t, err)
	result, failure, err := second.replay(t.Context(), nothing)
	require.NoError(t, errors.Join(failure, err))
	require.Nil(t, result)

	_, _, err = codec{converters: newConverters(nil, nil), where: targetOf(infoOf("order-7"))}.replay(t.Context(), o)
	require.ErrorIs(t, err, errSealed)

	conv.rest = converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), away{calls: new(1)})
	o, _, err = first.encode(t.Context(), "plaintext", 1<<20)
	require.NoError(t, err, "Temporal gets it")
	require.Empty(t, o.Data)
	require.NotEmpty(t, o.Missing)
}

// celsius is encoded as another type, which it chooses.
type celsius struct{ Degrees float64 }

type transfer struct{ Kelvin float64 }

func (celsius) TransferTypeConverter() (converter.TransferTypeConverter, error) {
	return converter.NewTransferTypeConverter(
		func(c *celsius) (*transfer, error) { return &transfer{c.Degrees + 273}, nil },
		func(k *transfer, c *celsius) error { c.Degrees = k.Kelvin - 273; return nil })
}

func TestCodec_EncodesAValueAsTheTypeThatItChooses(t *testing.T) {
	t.Parallel()
	c := codec{converters: sealedConverters(), where: targetOf(infoOf("order-7"))}
	for _, result := range []any{celsius{27}, &celsius{27}} {
		_, answer, err := c.encode(t.Context(), result, 1<<20)
		require.NoError(t, err)
		var got transfer
		require.NoError(t, c.dataIn(t.Context(), c.where).FromPayloads(answer.(*commonpb.Payloads), &got))
		require.Equal(t, transfer{300}, got)
	}
	broken := newConverters(converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), away{calls: new(1)}), nil)
	o, _, err := codec{converters: broken, where: targetOf(infoOf("order-7"))}.encode(t.Context(), celsius{27}, 1<<20)
	require.ErrorContains(t, err, errAway.Error())
	require.NotEmpty(t, o.Missing)
}

// A standalone activity that a Nexus operation has started answers its caller,
// for whom the outcome is encoded.
func TestTarget_IsTheNexusCaller(t *testing.T) {
	t.Parallel()
	info := infoOf("order-7")
	require.Equal(t, converter.SerializationContext(targetOf(info).ActivitySerializationContext), targetOf(info).serialization())

	nexus := converter.NexusSerializationContext{Endpoint: "payments", Service: "charges", Operation: "charge"}
	field := reflect.ValueOf(&info).Elem().FieldByName(nexusField)
	if !field.IsValid() { // before SDK 1.51
		_, has := reflect.TypeFor[sdkactivity.Info]().FieldByName(nexusField)
		require.False(t, has)
		_, has = reflect.TypeFor[client.CompleteActivityOptions]().FieldByName(nexusField)
		require.False(t, has)
		return
	}
	field.Set(reflect.ValueOf(&nexus))
	where := targetOf(info)
	require.Equal(t, converter.SerializationContext(nexus), where.serialization())

	var asked []converter.SerializationContext
	conv := newConverters(contextual{converter.GetDefaultDataConverter(), &asked}, nil)
	o, _, err := codec{converters: conv, where: targetOf(info)}.encode(t.Context(), "result", 1<<20)
	require.NoError(t, err)
	require.Equal(t, []converter.SerializationContext{nexus}, asked)
	other := codec{converters: conv, where: targetOf(infoOf("order-8"))}
	_, moved, _, err := other.open(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, nexus, moved.Nexus, "the record keeps it")

	p := ending{}.completion(ticket{Where: where})
	require.Equal(t, &nexus, reflect.ValueOf(p).FieldByName(nexusField).Interface())
}

// contextual reports the contexts that it is to encode in.
type contextual struct {
	converter.DataConverter
	asked *[]converter.SerializationContext
}

func (c contextual) WithSerializationContext(sc converter.SerializationContext) converter.DataConverter {
	*c.asked = append(*c.asked, sc)
	return c
}

// around wraps the client's data converter when it configures the client.
type around struct {
	client.PluginBase
	name string
}

func (p around) Name() string { return p.name }

func (p around) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	if o.ClientOptions.DataConverter == nil {
		o.ClientOptions.DataConverter = converter.GetDefaultDataConverter()
	}
	o.ClientOptions.DataConverter = converter.NewCodecDataConverter(o.ClientOptions.DataConverter, sealing{})
	return nil
}

// behind does so where the SDK forbids it.
type behind struct{ client.PluginBase }

func (*behind) Name() string { return "behind" }

func (*behind) NewClient(ctx context.Context, o client.PluginNewClientOptions, next func(context.Context, client.PluginNewClientOptions) error) error {
	if o.ClientOptions.DataConverter == nil {
		o.ClientOptions.DataConverter = converter.GetDefaultDataConverter()
	}
	o.ClientOptions.DataConverter = converter.NewCodecDataConverter(o.ClientOptions.DataConverter, sealing{})
	return next(ctx, o)
}

// promoted has it from another one.
type promoted struct{ behind }

// holding has it from one that only its value reveals.
type holding struct{ client.Plugin }

// harmless changes nothing that matters.
type harmless struct{ client.PluginBase }

func (harmless) Name() string { return "harmless" }

// deeper inherits that.
type deeper struct{ *harmless }

func TestPlugins_InAnyOrderOutcomesAreSealedOrTheClientIsRefused(t *testing.T) {
	t.Parallel()
	const wraps, inserts = "has put its own data converter", "has a NewClient method"
	for name, tc := range map[string]struct {
		before, after []client.Plugin
		refusal       string
	}{
		"alone":                         {},
		"wrapped before":                {before: []client.Plugin{around{name: "a"}}},
		"wrapped after":                 {after: []client.Plugin{around{name: "a"}}, refusal: wraps},
		"wrapped before and after":      {before: []client.Plugin{around{name: "a"}}, after: []client.Plugin{around{name: "b"}}, refusal: wraps},
		"in NewClient, before":          {before: []client.Plugin{&behind{}}, refusal: wraps},
		"in NewClient, after":           {after: []client.Plugin{&behind{}}, refusal: inserts},
		"in NewClient, promoted":        {after: []client.Plugin{&promoted{}}, refusal: inserts},
		"in NewClient, held":            {after: []client.Plugin{holding{&behind{}}}, refusal: inserts},
		"in NewClient, last of several": {after: []client.Plugin{harmless{}, &behind{}}, refusal: inserts},
		"harmless, before":              {before: []client.Plugin{harmless{}}},
		"harmless, after":               {after: []client.Plugin{harmless{}, &harmless{}, deeper{&harmless{}}, &deeper{&harmless{}}}},
		"a simple plugin, after":        {after: []client.Plugin{simple(t)}},
		"another guard, after":          {after: []client.Plugin{guardOf(t)}},
		"another guard, before":         {before: []client.Plugin{guardOf(t)}},
		"listed twice":                  {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := guardOf(t)
			plugins := append(append(tc.before, g), tc.after...)
			if name == "listed twice" {
				plugins = append(plugins, g)
			}
			c, err := client.NewLazyClient(client.Options{Plugins: plugins})
			if tc.refusal != "" {
				require.ErrorContains(t, err, tc.refusal)
				require.ErrorContains(t, err, "list the guard")
				return
			}
			require.NoError(t, err)
			defer c.Close()
			conv, err := g.clients.outside()
			require.NoError(t, err)
			_, sealed := conv.data.(*converter.CodecDataConverter)
			require.Equal(t, len(tc.before) > 0 && tc.before[0].Name() == "a", sealed)
		})
	}
}

func simple(t *testing.T) client.Plugin {
	t.Helper()
	p, err := temporal.NewSimplePlugin(temporal.SimplePluginOptions{Name: "simple"})
	require.NoError(t, err)
	return p
}

func guardOf(t *testing.T) *Guard {
	t.Helper()
	g, err := New(store.NewMemory(store.MemoryOptions{}), Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
	require.NoError(t, err)
	return g
}

func TestNewClient_ChangesNoOption(t *testing.T) {
	t.Parallel()
	g := guardOf(t)
	o := client.Options{}
	require.NoError(t, g.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}))
	before := client.PluginNewClientOptions{ClientOptions: o}
	require.NoError(t, g.NewClient(t.Context(), before, func(_ context.Context, after client.PluginNewClientOptions) error {
		require.Equal(t, before, after)
		require.Same(t, before.ClientOptions.DataConverter, after.ClientOptions.DataConverter)
		return nil
	}))
}

func TestVersion_IsReportedToTemporal(t *testing.T) {
	t.Parallel()
	var p client.Plugin = guardOf(t)
	require.NotEmpty(t, p.(interface{ Version() string }).Version())
}
