'use strict'
// What the JavaScript drivers share: running features and printing their lines, the steps of
// a group of two, and comparing what was read with what was sent.

const LIMIT = 40_000 // milliseconds that one feature may take
const REPLICAS = Number(process.env.BELFRY_REPLICAS ?? '1') // of a new topic
const FAULTS = process.env.BELFRY_FAULTS ?? '' // address of who ends nodes and starts them again

/** A feature that the client does not have; the message says why. */
class Lacks extends Error {}

/** Waits until done() holds, or fails with what was awaited. */
async function until (what, done, limit = LIMIT / 2) {
  const end = Date.now() + limit
  while (!(await done())) {
    if (Date.now() > end) throw new Error(`waited ${limit / 1000} s in vain: ${what()}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

const clip = text => text.length > 300 ? `${text.slice(0, 300)}…` : text

function equal (got, want, what) {
  const g = JSON.stringify(got)
  const w = JSON.stringify(want)
  if (g !== w) throw new Error(`${what}: got ${clip(g)}, want ${clip(w)}`)
}

/** The error of a promise that has to be refused, checked against a pattern. */
async function refused (promise, pattern, what) {
  let value
  try {
    value = await promise
  } catch (e) {
    const text = describe(e)
    if (!pattern.test(text)) throw new Error(`${what}: refused with ${text}, want ${pattern}`)
    return
  }
  throw new Error(`${what}: not refused, answered ${JSON.stringify(value)}`)
}

/** Everything that an error says, causes and parts of aggregates included. */
function describe (e) {
  const inner = [...(e.errors ?? []), e.cause, e.originalError].filter(Boolean).map(describe)
  return [e.message, e.type, e.code, ...inner].filter(Boolean).join(' ').replace(/\s+/g, ' ')
}

/** n messages whose values compress well and differ. */
function messages (n, name) {
  return Array.from({ length: n }, (_, i) => ({ key: `${name}-${i}`, value: `${name} ${i} ` + 'abcdefgh'.repeat(40) }))
}

/** What the members of one group have received, by key; a key that comes twice is a fault. */
class Ledger {
  constructor () {
    this.by = new Map()
    this.twice = []
  }

  add (member, key) {
    if (this.by.has(key)) this.twice.push(key)
    this.by.set(key, member)
  }

  count (member) { return [...this.by.values()].filter(m => m === member).length }
}

/** The partitions of one member: the client's callbacks write, the scenario reads. */
class Share {
  constructor () {
    this.held = new Set()
    this.lost = 0 // how often a partition was given up
  }

  add (parts) { parts.forEach(p => this.held.add(p)) }
  remove (parts) { parts.forEach(p => { if (this.held.delete(p)) this.lost++ }) }

  /** Takes a whole new assignment, as eager clients tell it. */
  set (parts) {
    this.remove([...this.held])
    this.add(parts)
  }

  parts () { return [...this.held].sort() }
}

/**
 * A group of two over the 4 partitions of a topic: the first member has all, the second takes
 * half, each message arrives once, and the first has all again after the second has left.
 *
 * join(name, seen) starts a member that calls seen(key) for each message: { share, leave() }.
 * send(keys) produces message i into partition i modulo 4.
 * cooperative: the first member keeps the partitions that do not move.
 * fixed: the second, a static member, comes back under its name within the session and nothing moves.
 */
async function groupOfTwo ({ join, send, cooperative = false, fixed = false }) {
  const ledger = new Ledger()
  const members = new Map()
  let sent = 0
  const shares = () => [...members.values()].map(m => m.share.parts())
  const start = async name => {
    members.set(name, await join(name, key => ledger.add(name, key)))
    return members.get(name)
  }
  const leave = async name => {
    const member = members.get(name)
    members.delete(name)
    await member.leave()
  }
  const settle = async (...counts) => {
    await until(() => `${counts} partitions, have ${JSON.stringify(shares())}`, () => shares().map(p => p.length).join() === counts.join())
    equal(shares().flat().sort(), [0, 1, 2, 3], 'partitions of the members')
  }
  const exchange = async (name, first) => {
    await send(Array.from({ length: 40 }, (_, i) => `${name}-${i}`))
    sent += 40
    await until(() => `${ledger.by.size} of ${sent} messages in the round ${name}, partitions ${JSON.stringify(shares())}`, () => ledger.by.size >= sent)
    equal(ledger.count('one'), first, `messages of the first member after the round ${name}`)
  }
  try {
    const one = await start('one')
    await settle(4)
    await exchange('alone', 40)
    let two = await start('two')
    await settle(2, 2)
    if (cooperative) equal(one.share.lost, 2, 'partitions given up by the first member')
    await exchange('shared', 60)
    if (fixed) {
      const had = [two.share.parts(), one.share.lost]
      await leave('two')
      two = await start('two')
      await settle(2, 2)
      equal([two.share.parts(), one.share.lost], had, 'partitions of the static member that came back, and what the first gave up by then')
      await exchange('back', 80)
    }
    await leave('two')
    await settle(4)
    await exchange('left', ledger.count('one') + 40)
    equal(ledger.twice, [], 'messages that came twice')
  } finally {
    for (const name of [...members.keys()]) await leave(name)
  }
}

/** Waits until every node has heard of a new topic ('known') or of its deletion ('gone'). */
async function heard (what, topic) {
  if (FAULTS) equal((await fetch(`${FAULTS}/${what}/${encodeURIComponent(topic)}`)).status, 200, `${what} ${topic}`)
}

/**
 * The leader of a partition is killed and started again while one producer writes to it and one consumer reads it.
 *
 * send(values) waits for the answers; got is where the consumer puts what it reads.
 */
async function survive (send, got) {
  const sent = []
  for (const [fault, name] of [['', 'before'], ['kill', 'without it'], ['restart', 'after']]) {
    if (fault) equal((await fetch(`${FAULTS}/${fault}`)).status, 200, `answer to ${fault}`)
    const values = Array.from({ length: 50 }, (_, i) => `${name} ${i}`)
    await send(values)
    sent.push(...values)
    const missing = () => sent.filter(v => !got.includes(v)).length
    await until(() => `${missing()} of ${sent.length} values in the round ${name}`, () => missing() === 0, LIMIT)
  }
  // What was read and not yet committed when the coordinator died may be read again; order and number of the first times stay.
  equal([...new Set(got)], sent, 'values')
}

/** Runs [name, function] one after the other and prints their lines, then ends the process. */
async function run (features) {
  for (const [name, feature] of features) {
    if (name === 'failover' && FAULTS === '') continue // one node: nobody takes over
    const began = Date.now()
    let timer
    const late = new Promise((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`not done after ${LIMIT / 1000} s`)), LIMIT)
    })
    let line = 'ok\t'
    try {
      if (typeof feature === 'string') throw new Lacks(feature)
      await Promise.race([feature(), late])
    } catch (e) {
      line = (e instanceof Lacks ? 'none\t' : 'fail\t') + describe(e)
      if (!(e instanceof Lacks)) console.error(name, e)
    }
    clearTimeout(timer)
    console.error(`${name}: ${Date.now() - began} ms`)
    process.stdout.write(`${name}\t${line}\n`)
  }
  process.exit(0)
}

module.exports = { Lacks, REPLICAS, Share, describe, equal, groupOfTwo, heard, messages, refused, run, survive, until }
