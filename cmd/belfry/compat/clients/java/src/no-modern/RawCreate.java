package belfry;

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.util.Map;

/** CreateTopics version 0, written by hand. */
final class RawCreate {
    static void topic(String bootstrap, String topic, int partitions, Map<String, String> config) throws IOException {
        ByteArrayOutputStream frame = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(frame);
        out.writeShort(19); // CreateTopics
        out.writeShort(0);
        out.writeInt(1); // correlation ID
        out.writeUTF("compat");
        out.writeInt(1); // topics
        out.writeUTF(topic);
        out.writeInt(partitions);
        out.writeShort(Node.REPLICAS);
        out.writeInt(0); // assignments
        out.writeInt(config.size());
        for (Map.Entry<String, String> entry : config.entrySet()) {
            out.writeUTF(entry.getKey());
            out.writeUTF(entry.getValue());
        }
        out.writeInt(10_000); // time-out, ms
        int colon = bootstrap.lastIndexOf(':');
        try (Socket socket = new Socket(bootstrap.substring(0, colon), Integer.parseInt(bootstrap.substring(colon + 1)))) {
            socket.setSoTimeout(20_000);
            DataOutputStream to = new DataOutputStream(socket.getOutputStream());
            to.writeInt(frame.size());
            frame.writeTo(to);
            to.flush();
            DataInputStream from = new DataInputStream(socket.getInputStream());
            from.readInt(); // size
            Check.equal("correlation ID", 1, from.readInt());
            Check.equal("topics in the answer", 1, from.readInt());
            Check.equal("topic in the answer", topic, from.readUTF());
            Check.equal("error code of CreateTopics", 0, (int) from.readShort());
        }
    }

    private RawCreate() {}
}
