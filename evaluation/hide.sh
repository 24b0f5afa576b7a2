# Run a command that does not see some files and folders: sh hide.sh [PATH]... -- COMMAND...
#
# `evaluation.hiding` starts this in mount and PID namespaces of its own, as root of them.
# A folder is empty for the command. A file is gone from its folder, which is put together anew
# from everything else in it: so a file that is saved again later stays hidden as well.
set -e
here=$(pwd)

without() { # the path of a file, absolute
    folder=${1%/*}
    cd "$folder"
    mount -t tmpfs tmpfs "$folder"
    # From here on "./x" is an entry as it was, and "$folder/x" what the command will see.
    chown --reference=. "$folder" 2>/dev/null || : # its owner may be unknown in here
    chmod --reference=. "$folder"
    for entry in * .[!.]* ..?*; do
        if [ "$folder/$entry" = "$1" ]; then
            continue
        elif [ -L "$entry" ]; then
            cp -P "./$entry" "$folder/$entry"
        elif [ -d "$entry" ]; then
            mkdir "$folder/$entry"
            keep "$entry"
        elif [ -e "$entry" ]; then # no match of a pattern is the pattern itself
            : >"$folder/$entry"
            keep "$entry"
        fi
    done
}

keep() { # the name of an entry, which may have been removed meanwhile
    mount --no-canonicalize --rbind "./$1" "$folder/$1" || [ ! -e "./$1" ]
}

while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        mount -t tmpfs tmpfs "$1"
    elif [ -e "$1" ]; then
        without "$1"
    fi
    shift
done
shift
cd "$here" # as it is now
unset OLDPWD
# Not with exec: this shell stays as the init of the PID namespace, and when it ends, so does every
# process in there.
"$@"
exit 0
