'use strict'
// Every feature of the compat table with kafkajs.
// usage: main.js BOOTSTRAP OLD_BOOTSTRAP PREFIX, with NODE_PATH at the installed modules.
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const zstd = require('@bokuweb/zstd-wasm')
const { REPLICAS, Share, equal, groupOfTwo, heard, messages, refused, run, survive, until } = require('../features/features.js')

const [BOOTSTRAP, OLD_BOOTSTRAP, PREFIX] = process.argv.slice(2)

// kafkajs has gzip inside; the other codecs are plug-ins. The published one for zstd wraps a C
// library that current releases of Node cannot compile: a WebAssembly build takes its place.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = new (require('kafkajs-lz4'))().codec
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  async compress (encoder) { return Buffer.from(zstd.compress(encoder.buffer, 3)) },
  async decompress (buffer) { return Buffer.from(zstd.decompress(buffer)) }
})

const cluster = (...brokers) => new Kafka({ clientId: PREFIX, brokers, logLevel: logLevel.ERROR, retry: { retries: 3 } })
const kafka = cluster(BOOTSTRAP)

/** Opens something that connects, hands it to use, and disconnects it however that ends. */
async function connected (client, use) {
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.disconnect()
  }
}

const admin = (use, at = kafka) => connected(at.admin(), use)
const producer = (use, options = {}, at = kafka) => connected(at.producer(options), use)

async function topic (name, { partitions = 1, configEntries = [], at = kafka } = {}) {
  const full = PREFIX + name
  await admin(a => a.createTopics({ topics: [{ topic: full, numPartitions: partitions, replicationFactor: REPLICAS, configEntries }] }), at)
  await heard('known', full)
  return full
}

/** Reads n messages of a topic from its start, in a group of its own. */
async function read (name, n, at = kafka, options = {}) {
  const consumer = at.consumer({ groupId: `${name}-reader${options.readUncommitted ? '-all' : ''}`, maxWaitTimeInMs: 200, rebalanceTimeout: 3000, ...options })
  const got = []
  return connected(consumer, async () => {
    await consumer.subscribe({ topic: name, fromBeginning: true })
    await consumer.run({ eachMessage: async ({ message }) => { got.push(message) } })
    await until(() => `${got.length} of ${n} messages`, () => got.length >= n)
    return got
  })
}

async function createTopic () {
  const name = PREFIX + 'create'
  await admin(async a => {
    const wish = { topics: [{ topic: name, numPartitions: 3, replicationFactor: REPLICAS, configEntries: [{ name: 'retention.ms', value: '3600000' }] }] }
    equal(await a.createTopics(wish), true, 'creation')
    await heard('known', name)
    equal(await a.createTopics(wish), false, 'second creation')
    const meta = await a.fetchTopicMetadata({ topics: [name] })
    equal(meta.topics[0].partitions.map(p => p.partitionId).sort(), [0, 1, 2], 'partitions')
    const { resources } = await a.describeConfigs({ resources: [{ type: 2, name, configNames: ['retention.ms'] }] })
    equal(resources[0].configEntries.map(c => [c.configName, c.configValue]), [['retention.ms', '3600000']], 'config')
    await a.createPartitions({ topicPartitions: [{ topic: name, count: 5 }] })
    await until(() => '5 partitions', async () => (await a.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length === 5)
    await a.deleteTopics({ topics: [name] })
    await heard('gone', name)
    equal((await a.listTopics()).includes(name), false, 'listed after its deletion')
  })
}

function codec (name, compression) {
  return async () => {
    const sent = messages(100, name)
    const t = await topic(`codec-${name}`)
    await producer(p => p.send({ topic: t, compression, messages: sent }))
    const got = (await read(t, 100)).map(m => ({ key: m.key.toString(), value: m.value.toString() }))
    equal(got, sent, 'messages')
  }
}

async function idempotent () {
  const sent = messages(100, 'idempotent')
  const t = await topic('idempotent')
  await producer(async p => {
    for (let i = 0; i < sent.length; i += 10) await p.send({ topic: t, messages: sent.slice(i, i + 10) })
  }, { idempotent: true })
  equal((await read(t, 100)).map(m => m.key.toString()), sent.map(m => m.key), 'keys')
}

/** A copy with its offsets is committed, a transaction aborted, another committed; a producer whose name was taken is refused. */
async function transactions () {
  const [source, target] = [await topic('txn-in'), await topic('txn-out')]
  const of = (...values) => ({ topic: target, messages: values.map(value => ({ value })) })
  const options = { transactionalId: source, idempotent: true, maxInFlightRequests: 1 }
  await producer(p => p.send({ topic: source, messages: ['a', 'b', 'c'].map(value => ({ value })) }))
  const copies = (await read(source, 3)).map(m => m.value.toString())
  const first = kafka.producer(options)
  await connected(first, async p => {
    const copy = await p.transaction()
    await copy.send(of(...copies))
    await copy.sendOffsets({ consumerGroupId: source, topics: [{ topic: source, partitions: [{ partition: 0, offset: '3' }] }] })
    await copy.commit()
    const aborted = await p.transaction()
    await aborted.send(of('aborted'))
    await aborted.abort()
    const later = await p.transaction()
    await later.send(of('later'))
    await later.commit()
    const [{ partitions }] = await admin(a => a.fetchOffsets({ groupId: source, topics: [source] }))
    equal(partitions[0].offset, '3', 'offset committed with a transaction')
    const late = await p.transaction()
    await producer(async second => {
      const fence = await second.transaction()
      await fence.send(of('fence'))
      await fence.commit()
    }, options)
    await refused(late.send(of('fenced')), /fence|epoch/i, 'a producer whose name was taken')
  })
  equal((await read(target, 5)).map(m => m.value.toString()), ['a', 'b', 'c', 'later', 'fence'], 'committed values')
  equal((await read(target, 6, kafka, { readUncommitted: true })).map(m => m.value.toString()), ['a', 'b', 'c', 'aborted', 'later', 'fence'], 'all values')
}

async function failover () {
  const t = PREFIX + 'failover' // the test has made it
  const patient = new Kafka({ clientId: PREFIX, brokers: [BOOTSTRAP], logLevel: logLevel.ERROR, retry: { retries: 60, initialRetryTime: 100, maxRetryTime: 500 } })
  const got = []
  const consumer = patient.consumer({ groupId: t, sessionTimeout: 6000, rebalanceTimeout: 6000, heartbeatInterval: 300, maxWaitTimeInMs: 200 })
  await connected(consumer, async () => {
    await consumer.subscribe({ topic: t, fromBeginning: true })
    await consumer.run({ autoCommitThreshold: 1, eachMessage: async ({ message }) => { got.push(message.value.toString()) } })
    await producer(p => survive(values => p.send({ topic: t, messages: values.map(value => ({ value })) }), got), { idempotent: true, maxInFlightRequests: 1 }, patient)
  })
}

async function groupEager () {
  const t = await topic('eager', { partitions: 4 })
  const join = async (_name, seen) => {
    const consumer = kafka.consumer({ groupId: t, sessionTimeout: 6000, rebalanceTimeout: 6000, heartbeatInterval: 300, maxWaitTimeInMs: 200 })
    const share = new Share()
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => share.set(payload.memberAssignment[t] ?? []))
    await consumer.connect()
    await consumer.subscribe({ topic: t, fromBeginning: true })
    await consumer.run({ autoCommitThreshold: 1, eachMessage: async ({ message }) => seen(message.key.toString()) })
    return { share, leave: () => consumer.disconnect() }
  }
  await producer(p => groupOfTwo({
    join,
    send: keys => p.send({ topic: t, messages: keys.map((key, i) => ({ partition: i % 4, key, value: '' })) })
  }))
  const { groups } = await admin(a => a.describeGroups([t]))
  equal([groups[0].state, groups[0].members.length], ['Empty', 0], 'group that all have left')
}

async function commitResume () {
  const t = await topic('resume')
  await producer(p => p.send({ topic: t, messages: messages(20, 'resume') }))
  const session = async use => {
    const consumer = kafka.consumer({ groupId: t, maxWaitTimeInMs: 200 })
    await connected(consumer, async () => {
      await consumer.subscribe({ topic: t, fromBeginning: true })
      const got = []
      await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => { got.push(message.offset) } })
      await until(() => `${got.length} messages`, () => got.length > 0)
      await use(consumer, got)
    })
  }
  await session(consumer => consumer.commitOffsets([{ topic: t, partition: 0, offset: '10', metadata: 'half-way' }]))
  const [{ partitions }] = await admin(a => a.fetchOffsets({ groupId: t, topics: [t] }))
  equal(partitions, [{ partition: 0, offset: '10', metadata: 'half-way' }], 'committed')
  await session((_consumer, got) => equal(got[0], '10', 'first offset after the return'))
}

async function seekByTime () {
  const t = await topic('time')
  const base = Date.now() - 100_000
  await producer(async p => {
    for (let i = 0; i < 10; i++) await p.send({ topic: t, messages: [{ value: `t${i}`, timestamp: String(base + i * 1000) }] })
  })
  const at = await admin(a => a.fetchTopicOffsetsByTimestamp(t, base + 4500))
  equal(at, [{ partition: 0, offset: '5' }], 'offset by time')
  const consumer = kafka.consumer({ groupId: t, maxWaitTimeInMs: 200 })
  await connected(consumer, async () => {
    const got = []
    await consumer.subscribe({ topic: t })
    await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => { got.push(message) } })
    consumer.seek({ topic: t, partition: 0, offset: at[0].offset })
    await until(() => `${got.length} messages`, () => got.length >= 5)
    equal([got[0].value.toString(), got[0].timestamp], ['t5', String(base + 5000)], 'message at that offset')
  })
}

async function headers () {
  const t = await topic('headers')
  const binary = Buffer.from([0, 255, 128])
  await producer(p => p.send({ topic: t, messages: [{ value: 'v', headers: { plain: 'text', binary, empty: '', many: ['a', 'b'] } }] }))
  const [m] = await read(t, 1)
  const got = Object.fromEntries(Object.entries(m.headers).map(([k, v]) => [k, [v].flat().map(b => b.toString('hex'))]))
  equal(got, { plain: [Buffer.from('text').toString('hex')], binary: ['00ff80'], empty: [''], many: ['61', '62'] }, 'headers')
}

async function tombstone () {
  const t = await topic('tombstone', { configEntries: [{ name: 'cleanup.policy', value: 'compact' }] })
  await producer(p => p.send({ topic: t, messages: [{ key: 'k', value: 'v' }, { key: 'k', value: null }, { key: 'e', value: '' }] }))
  equal((await read(t, 3)).map(m => m.value && m.value.toString()), ['v', null, ''], 'values')
  await producer(p => refused(p.send({ topic: t, messages: [{ value: 'no key' }] }), /INVALID_RECORD|87/, 'a message without key in a compacted topic'))
}

async function largeMessage () {
  const t = await topic('large')
  const mib = n => Buffer.alloc(n << 20, n)
  await producer(async p => {
    await p.send({ topic: t, messages: [{ value: mib(9) }] })
    await refused(p.send({ topic: t, messages: [{ value: mib(11) }] }), /MESSAGE_TOO_LARGE/, '11 MiB')
  })
  const [m] = await read(t, 1)
  equal(mib(9).equals(m.value), true, 'the large message is the same')
}

async function wrongTopic () {
  const bad = `${PREFIX} no/topic`
  await admin(a => refused(a.createTopics({ topics: [{ topic: bad }] }), /INVALID_TOPIC_EXCEPTION/, 'creation'))
  await producer(async p => {
    await refused(p.send({ topic: bad, messages: [{ value: 'v' }] }), /INVALID_TOPIC_EXCEPTION/, 'produce to a bad name')
    await refused(p.send({ topic: PREFIX + 'missing', messages: [{ value: 'v' }] }), /UNKNOWN_TOPIC_OR_PARTITION/, 'produce to a missing topic')
  }, { allowAutoTopicCreation: false })
}

async function unknownVersion () {
  const old = cluster(OLD_BOOTSTRAP)
  const sent = messages(20, 'old')
  const t = await topic('old', { at: old })
  await producer(p => p.send({ topic: t, messages: sent }), {}, old)
  equal((await read(t, 20, old)).map(m => m.value.toString()), sent.map(m => m.value), 'values')
}

zstd.init().then(() => run([
  ['create-topic', createTopic],
  ['produce-none', codec('none', CompressionTypes.None)],
  ['produce-gzip', codec('gzip', CompressionTypes.GZIP)],
  ['produce-snappy', codec('snappy', CompressionTypes.Snappy)],
  ['produce-lz4', codec('lz4', CompressionTypes.LZ4)],
  ['produce-zstd', codec('zstd', CompressionTypes.ZSTD)],
  ['idempotent', idempotent],
  ['transactions', transactions],
  ['group-eager', groupEager],
  ['group-cooperative', 'kafkajs has no cooperative rebalance: every member gives up all its partitions'],
  ['group-static', 'kafkajs has no group.instance.id'],
  ['group-new-protocol', 'kafkajs speaks the classic group protocol only'],
  ['commit-resume', commitResume],
  ['seek-by-time', seekByTime],
  ['headers', headers],
  ['tombstone', tombstone],
  ['large-message', largeMessage],
  ['wrong-topic', wrongTopic],
  ['unknown-version', unknownVersion],
  ['failover', failover]
]))
