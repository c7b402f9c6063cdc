"""Responses anew: the prompts that a run kept are sent to an endpoint, and its answers become raw shards again.

Answers of an endpoint are not deterministic, so they are no step of a run, whose outputs follow from its inputs. They
are *recorded* instead, and what is made of the record is a pure function of it:

    published run ─prompts─▶ requests ─ask─▶ ledger ─choose─▶ answers/<part>.jsonl ─▶ source of reader chat, another run

*Prompts* are the conversations that hygiene, deduplication and takedowns left, edits applied, without the last answer;
so nothing is paid for that would be dropped. A *request* is named by the hash of its body (model, messages, tools,
parameters) and its sample number, not by where or when it is sent. The *ledger* is a folder of requests and answers, to
which is only ever added: what is in it is not asked again, by this run or by another one that names the same folder.
A request under way keeps its place among the `concurrency` until its answer is at rest, so no crash loses more than
these. A failure is in the ledger, too, and asked again by the next command. *Choosing* reads the ledger alone: another
chooser asks nothing, more samples ask only those that are new.

The answers are ordinary raw data: an ordinary run ingests them, and hygiene, deduplication, packing, audit and diff
hold for them as for any other. A part of the run gives a file of the same name and, from the same ledger, the same
bytes, whatever the concurrency and the order in which answers came; a run that grew changes no old file.

    prompts     kept conversations → what is asked; checkers: is an answer right
    plan        all requests of a run, before any is sent
    endpoint    one request: retries, and what went wrong; asking: all of them, a bounded number at once
    ledger      what was answered, at rest
    choosing    the answers of a prompt → one, or a reason; written: files and books; erased: what is taken down
    source      all of it, for each source that asks for it; command: as people call it
"""
