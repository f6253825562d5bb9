'use strict'
// Every feature of the compat table with @confluentinc/kafka-javascript (librdkafka), by its
// interface in the manner of kafkajs.
// usage: main.js BOOTSTRAP OLD_BOOTSTRAP PREFIX, with NODE_PATH at the installed modules.
const { KafkaJS } = require('@confluentinc/kafka-javascript')
const { REPLICAS, Share, equal, groupOfTwo, heard, messages, refused, run, survive, until } = require('../features/features.js')

const { CompressionTypes, ErrorCodes, Kafka, PartitionAssigners, logLevel } = KafkaJS
const [BOOTSTRAP, OLD_BOOTSTRAP, PREFIX] = process.argv.slice(2)

const cluster = (...brokers) => new Kafka({ kafkaJS: { clientId: PREFIX, brokers, logLevel: logLevel.ERROR } })
const kafka = cluster(BOOTSTRAP)

/** Connects a client, hands it to use, and disconnects it however that ends. */
async function connected (client, use) {
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.disconnect()
  }
}

const admin = (use, at = kafka) => connected(at.admin(), use)

/** Sends messages with settings of their own for the producer; librdkafka's own names are allowed too. */
function send (topic, sent, { kafkaJS = {}, at = kafka, ...own } = {}) {
  const producer = at.producer({ kafkaJS, 'linger.ms': 5, 'message.timeout.ms': 10_000, 'topic.metadata.propagation.max.ms': 1000, ...own })
  // Why copies: the producer writes into what it is given.
  return connected(producer, p => p.send({ topic, messages: sent.map(m => ({ ...m })) }))
}

async function topic (name, { partitions = 1, configEntries = [], at = kafka } = {}) {
  const topic = PREFIX + name
  equal(await admin(a => a.createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: REPLICAS, configEntries }] }), at), true, 'creation')
  await heard('known', topic)
  return topic
}

const consumer = (groupId, own = {}, at = kafka) => at.consumer({ kafkaJS: { groupId, fromBeginning: true, autoCommit: false }, 'fetch.wait.max.ms': 100, ...own })

/** Reads n messages of a topic from its start, in a group of its own. */
async function read (name, n, at = kafka, own = {}) {
  const got = []
  return connected(consumer(`${name}-reader${own['isolation.level'] ?? ''}`, own, at), async c => {
    await c.subscribe({ topic: name })
    await c.run({ eachMessage: async ({ message }) => { got.push(message) } })
    await until(() => `${got.length} of ${n} messages`, () => got.length >= n)
    return got
  })
}

async function roundTrip (t, sent, options = {}) {
  await send(t, sent, options)
  const got = await read(t, sent.length, options.at)
  equal(got.map(m => ({ key: m.key.toString(), value: m.value.toString() })), sent, 'messages')
}

async function createTopic () {
  const name = PREFIX + 'create'
  await admin(async a => {
    const wish = { topics: [{ topic: name, numPartitions: 3, replicationFactor: REPLICAS, configEntries: [{ name: 'retention.ms', value: '3600000' }] }] }
    equal(await a.createTopics(wish), true, 'creation')
    await heard('known', name)
    equal(await a.createTopics(wish), false, 'second creation')
    const [meta] = await a.fetchTopicMetadata({ topics: [name] })
    equal(meta.partitions.map(p => p.partitionId).sort(), [0, 1, 2], 'partitions')
    await a.deleteTopics({ topics: [name] })
    await heard('gone', name)
    equal((await a.listTopics()).includes(name), false, 'listed after its deletion')
  })
}

const codec = compression => async () => roundTrip(await topic(`codec-${compression}`), messages(100, compression), { kafkaJS: { compression } })

async function idempotent () {
  await roundTrip(await topic('idempotent'), messages(100, 'idempotent'), { kafkaJS: { idempotent: true }, 'batch.num.messages': 7 })
}

/** A copy with its offsets is committed, a transaction aborted, another committed; a producer whose name was taken is refused. */
async function transactions () {
  const [source, target] = [await topic('txn-in'), await topic('txn-out')]
  const of = (...values) => ({ topic: target, messages: values.map(value => ({ value })) })
  const transactional = () => kafka.producer({ kafkaJS: { transactionalId: source }, 'linger.ms': 5 })
  await send(source, ['a', 'b', 'c'].map(value => ({ value })))
  await connected(consumer(source), async c => {
    const copies = []
    await c.subscribe({ topic: source })
    await c.run({ eachMessage: async ({ message }) => { copies.push(message.value.toString()) } })
    await until(() => `${copies.length} of 3 messages`, () => copies.length === 3)
    await connected(transactional(), async p => {
      const copy = await p.transaction()
      await copy.send(of(...copies))
      await copy.sendOffsets({ consumer: c, topics: [{ topic: source, partitions: [{ partition: 0, offset: '3' }] }] })
      await copy.commit()
      const aborted = await p.transaction()
      await aborted.send(of('aborted'))
      await aborted.abort()
      const later = await p.transaction()
      await later.send(of('later'))
      await later.commit()
      const late = await p.transaction()
      await connected(transactional(), async second => {
        const fence = await second.transaction()
        await fence.send(of('fence'))
        await fence.commit()
      })
      await refused((async () => {
        await late.send(of('fenced'))
        await late.commit()
      })(), /fence|epoch|purged/i, 'a producer whose name was taken')
    })
  })
  const [{ partitions: [found] }] = await admin(a => a.fetchOffsets({ groupId: source, topics: [source] }))
  equal(found.offset, '3', 'offset committed with a transaction')
  equal((await read(target, 5)).map(m => m.value.toString()), ['a', 'b', 'c', 'later', 'fence'], 'committed values')
  equal((await read(target, 6, kafka, { 'isolation.level': 'read_uncommitted' })).map(m => m.value.toString()), ['a', 'b', 'c', 'aborted', 'later', 'fence'], 'all values')
}

async function failover () {
  const t = PREFIX + 'failover' // the test has made it
  const got = []
  await connected(consumer(t, classic(PartitionAssigners.range)), async c => {
    await c.subscribe({ topic: t })
    await c.run({
      eachMessage: async ({ partition, message }) => {
        got.push(message.value.toString())
        await c.commitOffsets([{ topic: t, partition, offset: String(Number(message.offset) + 1) }])
      }
    })
    const producer = kafka.producer({ kafkaJS: { idempotent: true }, 'linger.ms': 5 })
    await connected(producer, p => survive(values => p.send({ topic: t, messages: values.map(value => ({ value })) }), got))
  })
}

/** The scenario of two members; own(member) gives librdkafka's settings for each. */
async function group (name, own, kind = {}) {
  const t = await topic(name, { partitions: 4 })
  const join = async (member, seen) => {
    const share = new Share()
    const c = consumer(t, {
      'client.id': member,
      rebalance_cb: (err, parts) => {
        const numbers = parts.map(p => p.partition)
        if (err.code === ErrorCodes.ERR__ASSIGN_PARTITIONS) share.add(numbers)
        else share.remove(numbers)
      },
      ...own(member)
    })
    await c.connect()
    await c.subscribe({ topic: t })
    await c.run({
      eachMessage: async ({ partition, message }) => {
        seen(message.key.toString())
        await c.commitOffsets([{ topic: t, partition, offset: String(Number(message.offset) + 1) }])
      }
    })
    return { share, leave: () => c.disconnect() }
  }
  const put = keys => send(t, keys.map((key, i) => ({ partition: i % 4, key, value: '' })))
  await groupOfTwo({ join, send: put, ...kind })
}

const classic = (assigner, own = {}) => ({ 'partition.assignment.strategy': assigner, 'session.timeout.ms': 6000, 'heartbeat.interval.ms': 300, ...own })
const groupEager = () => group('eager', () => classic(PartitionAssigners.range))
const groupCooperative = () => group('cooperative', () => classic(PartitionAssigners.cooperativeSticky), { cooperative: true })
const groupStatic = () => group('static', member => classic(PartitionAssigners.range, { 'group.instance.id': member }), { fixed: true })
const groupNewProtocol = () => group('new', () => ({ 'group.protocol': 'consumer' }), { cooperative: true })

async function commitResume () {
  const t = await topic('resume')
  await send(t, messages(20, 'resume'))
  const session = use => connected(consumer(t), async c => {
    const got = []
    await c.subscribe({ topic: t })
    await c.run({ eachMessage: async ({ message }) => { got.push(message.offset) } })
    await until(() => `${got.length} messages`, () => got.length > 0)
    await use(c, got[0])
  })
  await session(async (c, first) => {
    equal(first, '0', 'first offset of a new group')
    await c.commitOffsets([{ topic: t, partition: 0, offset: '10', metadata: 'half-way' }])
  })
  const [{ partitions: [found] }] = await admin(a => a.fetchOffsets({ groupId: t, topics: [t] }))
  equal([found.offset, found.metadata], ['10', 'half-way'], 'committed')
  await session((_c, first) => equal(first, '10', 'first offset after the return'))
}

async function seekByTime () {
  const t = await topic('time')
  const base = Date.now() - 100_000
  await send(t, Array.from({ length: 10 }, (_, i) => ({ value: `t${i}`, timestamp: String(base + i * 1000) })))
  const [{ offset }] = await admin(a => a.fetchTopicOffsetsByTimestamp(t, base + 4500))
  equal(String(offset), '5', 'offset by time')
  await connected(consumer(t), async c => {
    const got = []
    await c.subscribe({ topic: t })
    await c.run({ eachMessage: async ({ message }) => { got.push(message) } })
    await until(() => 'an assignment', () => c.assignment().length === 1)
    c.seek({ topic: t, partition: 0, offset })
    await until(() => 'the last message', () => got.at(-1)?.offset === '9')
    const five = got.findLast(m => m.offset === '5')
    equal([five.value.toString(), five.timestamp], ['t5', String(base + 5000)], 'message at that offset')
  })
}

async function headers () {
  const t = await topic('headers')
  await send(t, [{ value: 'v', headers: { plain: 'text', binary: Buffer.from([0, 255, 128]), many: ['a', 'b'] } }])
  const [m] = await read(t, 1)
  const got = Object.fromEntries(Object.entries(m.headers).map(([k, v]) => [k, [v].flat().map(b => Buffer.from(b).toString('hex'))]))
  equal(got, { plain: [Buffer.from('text').toString('hex')], binary: ['00ff80'], many: ['61', '62'] }, 'headers')
}

async function tombstone () {
  const t = await topic('tombstone', { configEntries: [{ name: 'cleanup.policy', value: 'compact' }] })
  await send(t, [{ key: 'k', value: 'v' }, { key: 'k', value: null }])
  equal((await read(t, 2)).map(m => m.value && m.value.toString()), ['v', null], 'values')
  await refused(send(t, [{ value: 'no key' }]), /INVALID_RECORD|87|validation/i, 'a message without key in a compacted topic')
}

async function largeMessage () {
  const t = await topic('large')
  const mib = n => Buffer.alloc(n << 20, n)
  const room = { 'message.max.bytes': 64 << 20 }
  await send(t, [{ value: mib(9) }], room)
  await refused(send(t, [{ value: mib(11) }], room), /too large|MSG_SIZE/i, '11 MiB')
  const [m] = await read(t, 1)
  equal(mib(9).equals(m.value), true, 'the large message is the same')
}

async function wrongTopic () {
  const bad = `${PREFIX} no/topic`
  await admin(a => refused(a.createTopics({ topics: [{ topic: bad, numPartitions: 1 }] }), /TOPIC_EXCEPTION/, 'creation'))
  await refused(send(bad, [{ value: 'v' }]), /TOPIC_EXCEPTION|unknown topic/i, 'produce to a bad name')
  await refused(send(PREFIX + 'missing', [{ value: 'v' }]), /unknown topic/i, 'produce to a missing topic')
}

async function unknownVersion () {
  const at = cluster(OLD_BOOTSTRAP)
  await roundTrip(await topic('old', { at }), messages(20, 'old'), { at })
}

run([
  ['create-topic', createTopic],
  ['produce-none', codec(CompressionTypes.None)],
  ['produce-gzip', codec(CompressionTypes.GZIP)],
  ['produce-snappy', codec(CompressionTypes.SNAPPY)],
  ['produce-lz4', codec(CompressionTypes.LZ4)],
  ['produce-zstd', codec(CompressionTypes.ZSTD)],
  ['idempotent', idempotent],
  ['transactions', transactions],
  ['group-eager', groupEager],
  ['group-cooperative', groupCooperative],
  ['group-static', groupStatic],
  ['group-new-protocol', groupNewProtocol],
  ['commit-resume', commitResume],
  ['seek-by-time', seekByTime],
  ['headers', headers],
  ['tombstone', tombstone],
  ['large-message', largeMessage],
  ['wrong-topic', wrongTopic],
  ['unknown-version', unknownVersion],
  ['failover', failover]
])
