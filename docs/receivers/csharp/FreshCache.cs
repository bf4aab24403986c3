// Keeps a cache of this process fresh: follows the notices of an unstale sidecar and drops what they name. Needs nothing but .NET.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Runtime.Serialization.Json;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using System.Xml;
using System.Xml.Linq;

/// <summary>Reads through a dictionary. Bounds and lifetimes are yours to add, or put your own cache in its place. Redis globs drop all of it.</summary>
public sealed class FreshCache<V>
{
    static readonly TimeSpan Silence = TimeSpan.FromSeconds(15); // without a word, after which the cache isn't trusted

    readonly Dictionary<string, V> cache = new Dictionary<string, V>();
    readonly Dictionary<string, object> fetches = new Dictionary<string, object>(); // the last of each key; a drop of the key takes it away
    readonly HttpClient http = new HttpClient { Timeout = Timeout.InfiniteTimeSpan };
    readonly string url;
    string last = "";
    Stopwatch vouched;

    public FreshCache(string address = "http://127.0.0.1:7863", string caches = "")
    {
        url = address + "/v1/notices" + (caches == "" ? "" : "?cache=" + caches);
        Task.Run(Follow);
    }

    public async Task<V> Get(string key, Func<Task<V>> load)
    {
        var fetch = new object();
        lock (cache)
        {
            if (vouched?.Elapsed < Silence && cache.TryGetValue(key, out var held)) return held;
            fetches[key] = fetch;
        }
        Func<bool> isLast = () => fetches.TryGetValue(key, out var newest) && newest == fetch;
        try
        {
            var value = await load();
            lock (cache) { if (isLast()) cache[key] = value; } // else its key was dropped since, and it may be old: it is answered, but not kept
            return value;
        }
        finally { lock (cache) { if (isLast()) fetches.Remove(key); } }
    }

    async Task Follow()
    {
        for (;; await Task.Delay(200))
            try { await Listen(); }
            catch (Exception) { } // whatever it was: without a word the cache isn't trusted for long
    }

    async Task Listen()
    {
        var request = new HttpRequestMessage(HttpMethod.Get, url);
        if (last != "") request.Headers.TryAddWithoutValidation("Last-Event-ID", last);
        using (var silence = new CancellationTokenSource(Silence))
        using (var answer = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, silence.Token))
        using (silence.Token.Register(answer.Dispose)) // ends a read that waits for too long
        using (var lines = new StreamReader(await answer.EnsureSuccessStatusCode().Content.ReadAsStreamAsync()))
        {
            var fields = new Dictionary<string, string>();
            for (string line; (line = await lines.ReadLineAsync()) != null; silence.CancelAfter(Silence))
                if (line != "") fields[line.Substring(0, line.IndexOf(": "))] = line.Substring(line.IndexOf(": ") + 2);
                else Apply(fields["event"], fields["id"], fields["data"]);
        }
    }

    void Apply(string kind, string id, string json)
    {
        var reader = JsonReaderWriterFactory.CreateJsonReader(Encoding.UTF8.GetBytes(json), XmlDictionaryReaderQuotas.Max);
        var data = XElement.Load(reader); // lists are elements `item`
        var resumed = (string)data.Element("resumed") == "true";
        var drops = kind == "drop" && (string)data.Element("v") == "1" ? data.Elements("drop").Elements("item").ToList() : new List<XElement>();
        var patterns = drops.Elements("patterns").Elements("item").Any();
        lock (cache)
        {
            foreach (var key in drops.Elements("keys").Elements("item"))
            {
                cache.Remove(key.Value);
                fetches.Remove(key.Value);
            }
            if (patterns || !(drops.Any() || resumed || kind == "beat")) // or a flush, lost history, or something newer than this program
            {
                cache.Clear();
                fetches.Clear();
            }
            last = id;
            if (!resumed) vouched = Stopwatch.StartNew(); // after a resume what was missed comes first
        }
    }
}
